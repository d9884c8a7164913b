//! Templates in Tera's language.
//!
//! Tera stops at unknown names, functions and filters by itself. Added here: bounds on the text's length, on what a
//! template does and on what it keeps ([`guard`]), no way around the check on values, and errors that say where a
//! refused value was to be printed.

mod depth;
mod files;
mod guard;
mod locate;
mod lookup;
mod quoting;

use std::collections::BTreeMap;
use std::error::Error as _;
use std::io::{self, Write};
use std::sync::Arc;

use tera::{ErrorKind, Kwargs, State, Tera, TeraResult, Value};

use self::depth::{MAX_LEVELS, TooDeep};
use self::guard::{Guarded, Unguarded};
use crate::context::Context;
use crate::error::{MenuError, Place};
use crate::escape::{Language, Refused};
use crate::labnet::Host;
use crate::menus::{MAX_OUTPUT, made_by};
use crate::stop::Stop;
use crate::view::{ConfigView, Variable};

/// The type of what clients may be given to boot.
const CHOICE_TYPE: &str = "choice";

/// The type of appservers.
const SERVER_TYPE: &str = "server";

/// All templates in Tera's language, compiled.
pub(crate) struct Engine {
    /// The same templates twice: Tera has one escape function for all.
    ipxe: Tera,
    lines: Tera,
    traits: BTreeMap<String, Traits>,
    /// What Tera was given, to tell places in what it was made from.
    guarded: Sources,
}

/// The guarded templates by name.
type Sources = BTreeMap<String, Guarded>;

/// What was seen of a template when it was loaded.
struct Traits {
    language: Language,
    /// Whether it names `self` or `server`, so that those are collected only for whom they are wanted.
    wants_self: bool,
    wants_server: bool,
}

/// One rendering.
struct Request<'a> {
    template: &'a str,
    language: Language,
    host: Host<'a>,
    view: &'a Arc<dyn ConfigView>,
    stop: &'a Stop,
}

impl Engine {
    pub(crate) fn new(texts: &BTreeMap<String, String>) -> Result<Self, MenuError> {
        let guarded = guarded(texts)?;
        let links = guarded.iter().map(|(name, guarded)| (name.as_str(), &guarded.links)).collect();
        depth::check(&links).map_err(|TooDeep(way)| MenuError::Links {
            reason: format!(
                "templates may lead {MAX_LEVELS} deep into each other by include, extends and block; these lead deeper: {}",
                way.join(", ")
            ),
        })?;
        let mut ipxe = Tera::new();
        // Every ending: the check on values is never off.
        ipxe.autoescape_on([""]);
        ipxe.register_filter("safe", unavailable);
        ipxe.register_filter("join", lookup::join);
        ipxe.register_filter("replace", lookup::replace);
        ipxe.register_filter("file_url", files::file_url);
        ipxe.register_filter("beside", files::beside);
        ipxe.register_filter("quoted", quoting::quoted);
        ipxe.register_filter("grub_words", quoting::grub_words);
        ipxe.register_filter("grub_path", quoting::grub_path);
        lookup::register(&mut ipxe);
        // As they were written, for errors that show their lines; then what is rendered.
        ipxe.clone().add_raw_templates(texts).map_err(|error| load_error(&error))?;
        let loaded = ipxe.add_raw_templates(guarded.iter().map(|(name, guarded)| (name, &guarded.text)));
        loaded.map_err(|error| load_error(&error))?;
        if let Some((name, _)) = guarded.iter().find(|(_, guarded)| guarded.broken) {
            let reason = "it makes sense to Tera, but not to what bounds it".to_owned();
            return Err(MenuError::Syntax { place: Place::whole(name), reason });
        }
        ipxe.set_escape_fn(escape(Language::Ipxe));
        let mut lines = ipxe.clone();
        lines.set_escape_fn(escape(Language::Lines));
        let traits = texts
            .iter()
            .map(|(name, text)| {
                let variables = ipxe.get_template_variables(name).map_err(|error| load_error(&error))?;
                let traits = Traits {
                    language: Language::of(made_by(name).0, text),
                    wants_self: variables.contains("self"),
                    wants_server: variables.contains("server"),
                };
                Ok((name.clone(), traits))
            })
            .collect::<Result<_, MenuError>>()?;
        Ok(Self { ipxe, lines, traits, guarded })
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.traits.keys().map(String::as_str)
    }

    pub(crate) fn render(
        &self,
        template: &str,
        context: &Context,
        host: Host<'_>,
        view: &Arc<dyn ConfigView>,
        stop: &Stop,
    ) -> Result<String, MenuError> {
        let Some(traits) = self.traits.get(template) else {
            let known = self.names().map(str::to_owned).collect();
            return Err(MenuError::Unknown { name: template.to_owned(), known });
        };
        let request = Request { template, language: traits.language, host, view, stop };
        let values = traits.values(context, host, view.as_ref());
        let mut out = Bounded::default();
        let outcome = {
            let _scope = lookup::Scope::enter(Arc::clone(view), host, traits.language, false, stop);
            self.tera(traits.language).render_to(template, &context_of(&values), &mut out)
        };
        outcome.map_err(|error| self.render_error(&error, &request, &values))?;
        // Tera writes text only, so nothing is ever replaced here.
        Ok(String::from_utf8(out.bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// The place in the template as it was written.
    fn place(&self, report: &tera::ReportError) -> Place {
        let place = Place::of(report);
        match self.guarded.get(&place.template) {
            Some(guarded) => guarded.original(place),
            None => place,
        }
    }

    fn tera(&self, language: Language) -> &Tera {
        match language {
            Language::Ipxe => &self.ipxe,
            Language::Lines => &self.lines,
        }
    }

    fn render_error(&self, error: &tera::Error, request: &Request<'_>, values: &Value) -> MenuError {
        let client = request.host.name.to_owned();
        let whole = || Place::whole(request.template);
        if request.stop.is_stopped() {
            return MenuError::Stopped { place: whole(), client };
        }
        let cause =
            error.source().and_then(|source| source.downcast_ref::<io::Error>()).and_then(io::Error::get_ref);
        if let Some(Overflow) = cause.and_then(|cause| cause.downcast_ref()) {
            return MenuError::TooLong { place: whole(), limit: MAX_OUTPUT, client };
        }
        if let Some(Refused(reason)) = cause.and_then(|cause| cause.downcast_ref::<Refused>()) {
            return self.refusal(request, values, reason);
        }
        match error.kind() {
            // A filter that escapes by itself, as join does: Tera keeps the place and loses the cause.
            ErrorKind::RenderingError(report) if report.message().starts_with("Io error") => {
                MenuError::Value {
                    place: self.place(report),
                    variable: "an expression".to_owned(),
                    reason: "it would break out of its line".to_owned(),
                    client,
                }
            }
            ErrorKind::RenderingError(report) | ErrorKind::SyntaxError(report) => {
                MenuError::Render { place: self.place(report), reason: report.message().to_owned(), client }
            }
            kind => MenuError::Render { place: whole(), reason: kind.to_string(), client },
        }
    }
}

impl Traits {
    /// What the template may name.
    fn values(&self, context: &Context, host: Host<'_>, view: &dyn ConfigView) -> Value {
        let facts = Value::from_serializable(context);
        let mut values = facts.as_map().cloned().unwrap_or_default();
        if self.wants_self {
            let own = variables(view.variables(host.kind, host.name), &Value::none());
            values.insert("self".into(), own);
        }
        if self.wants_server {
            let facts = values.get(&"server".into()).cloned().unwrap_or_else(Value::none);
            let server = variables(view.variables(SERVER_TYPE, &context.server.name), &facts);
            values.insert("server".into(), server);
        }
        if let Some(choice) = &context.choice {
            let facts = values.get(&"choice".into()).cloned().unwrap_or_else(Value::none);
            let choice = variables(view.variables(CHOICE_TYPE, &choice.name), &facts);
            values.insert("choice".into(), choice);
        }
        Value::from(values)
    }
}

/// Variables as a map in which those that may have several values are lists; `facts` before them.
fn variables(variables: Vec<Variable<'_>>, facts: &Value) -> Value {
    let mut map = tera::Map::new();
    for Variable { name, values, many } in variables {
        let value = match values.first() {
            Some(value) if !many => Value::normal_string(value),
            _ => Value::from(values.into_iter().map(Value::normal_string).collect::<Vec<_>>()),
        };
        map.insert(name.to_owned().into(), value);
    }
    map.extend(facts.as_map().cloned().unwrap_or_default());
    Value::from(map)
}

fn context_of(values: &Value) -> tera::Context {
    let mut context = tera::Context::new();
    for (key, value) in values.as_map().into_iter().flatten() {
        context.insert_value(key.to_string(), value.clone());
    }
    context
}

fn guarded(texts: &BTreeMap<String, String>) -> Result<Sources, MenuError> {
    let guard = |(name, text): (&String, &String)| match guard::guard(text) {
        Ok(guarded) => Ok((name.clone(), guarded)),
        Err(Unguarded { at, reason }) => {
            Err(MenuError::Syntax { place: Place::at(name, text, at), reason: reason.to_owned() })
        }
    };
    texts.iter().map(guard).collect()
}

fn load_error(error: &tera::Error) -> MenuError {
    match error.kind() {
        ErrorKind::SyntaxError(report) => {
            MenuError::Syntax { place: Place::of(report), reason: report.message().to_owned() }
        }
        kind => MenuError::Links { reason: kind.to_string() },
    }
}

/// How values are printed. Tera wants a bare function.
fn escape(language: Language) -> tera::EscapeFn {
    fn write(language: Language, value: &str, out: &mut dyn Write) -> io::Result<()> {
        if lookup::is_stopped() {
            return Err(io::Error::other("it was told to end"));
        }
        match language.objection(value) {
            Some(reason) => Err(io::Error::other(Refused(reason))),
            None => out.write_all(value.as_bytes()),
        }
    }
    match language {
        Language::Ipxe => |value, out| write(Language::Ipxe, value, out),
        Language::Lines => |value, out| write(Language::Lines, value, out),
    }
}

/// In place of Tera's `safe`, which would let a value past the check.
fn unavailable(_: Value, _: Kwargs, _: &State<'_>) -> TeraResult<Value> {
    Err(tera::Error::message("the filter \"safe\" is not available: every value is checked"))
}

/// Text that may grow to [`MAX_OUTPUT`] bytes; then writing fails.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
#[error("too long")]
struct Overflow;

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > MAX_OUTPUT - self.bytes.len() {
            return Err(io::Error::other(Overflow));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
