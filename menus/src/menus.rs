//! The set of templates that is in force, and rendering one of them.
//!
//! Tera stops at unknown names, functions and filters by itself. Added here: a bound on the text's length and on
//! `range`, no way around the check on values, and errors that say where a refused value was to be printed.
//! Loops have no bound of their own, so the caller renders where it can stop waiting.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::io::{self, Write};

use tera::{ErrorKind, Kwargs, State, Tera, TeraResult, Value};

use crate::context::Context;
use crate::error::{MenuError, Place};
use crate::escape::{Language, Refused};
use crate::labnet;
use crate::view::{ConfigView, EmptyView};

/// The longest text that a template may become, in bytes; iPXE and pxelinux hold a script in RAM whole.
pub const MAX_OUTPUT: usize = 64 << 10;

/// The longest template, in bytes. A longer one is an error when it is loaded.
pub const MAX_TEMPLATE: usize = 256 << 10;

/// The most numbers that `range` yields. Asking for more is an error.
pub const MAX_RANGE: usize = 1000;

/// The ending of Tera's files: `lab.ipxe.tera` makes `lab.ipxe`.
pub const TEMPLATE_SUFFIX: &str = ".tera";

const SHIPPED: &[(&str, &str)] = &[
    ("autoexec.ipxe.tera", include_str!("../templates/autoexec.ipxe.tera")),
    ("default.ipxe.tera", include_str!("../templates/default.ipxe.tera")),
    ("nodisk.ipxe.tera", include_str!("../templates/nodisk.ipxe.tera")),
];

/// The type of the entities that boot.
const CLIENT_TYPE: &str = "client";

/// The templates in force: the shipped ones, and before them the site's own. Never changed: an edit makes another.
pub struct Menus {
    ipxe: Tera,
    lines: Tera,
    /// The languages of Tera's templates.
    languages: BTreeMap<String, Language>,
    labnet: BTreeMap<String, (labnet::Template, Language)>,
}

impl std::fmt::Debug for Menus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Menus").field("templates", &self.names()).finish()
    }
}

impl Menus {
    /// The shipped templates, shadowed and joined by the site's own: pairs of a name, as `lab.ipxe.tera`, and a text.
    /// A name that ends in `.tera` makes a Tera template; any other text is one of Labnet's if its outermost element
    /// is `<Template>`, and is else left out: not every file beside the templates is one.
    ///
    /// # Errors
    /// When one is too long, has wrong syntax, or names an element, filter, function or template that there is not.
    pub fn new(site_templates: Vec<(String, String)>) -> Result<Self, MenuError> {
        let mut texts: BTreeMap<String, String> =
            SHIPPED.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        texts.extend(site_templates);
        texts.retain(|name, text| name.ends_with(TEMPLATE_SUFFIX) || labnet::Template::recognises(text));
        for (template, text) in &texts {
            if text.len() > MAX_TEMPLATE {
                let template = template.clone();
                return Err(MenuError::TooLarge { template, size: text.len(), limit: MAX_TEMPLATE });
            }
        }
        let (tera, labnet): (BTreeMap<_, _>, BTreeMap<_, _>) =
            texts.into_iter().partition(|(name, _)| name.ends_with(TEMPLATE_SUFFIX));
        let languages = tera
            .iter()
            .map(|(name, text)| {
                let output_name = name.strip_suffix(TEMPLATE_SUFFIX).unwrap_or(name);
                (name.clone(), Language::of(output_name, text))
            })
            .collect();
        let mut ipxe = Tera::new();
        // Every ending: the check on values is never off.
        ipxe.autoescape_on([""]);
        ipxe.register_function("range", range);
        ipxe.register_filter("safe", unavailable);
        ipxe.add_raw_templates(tera).map_err(|error| load_error(&error))?;
        ipxe.set_escape_fn(Language::Ipxe.escape());
        let mut lines = ipxe.clone();
        lines.set_escape_fn(Language::Lines.escape());
        let labnet = labnet
            .into_iter()
            .map(|(name, text)| {
                let template = labnet::Template::parse(&name, &text)?;
                let language = template.language();
                Ok((name, (template, language)))
            })
            .collect::<Result<_, MenuError>>()?;
        Ok(Self { ipxe, lines, languages, labnet })
    }

    /// The templates' names, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.ipxe.get_template_names().collect();
        names.extend(self.labnet.keys().map(String::as_str));
        names.sort_unstable();
        names
    }

    /// The text of template `name`, with or without its `.tera`, for the client in `context`, on a site without
    /// entities.
    ///
    /// # Errors
    /// As [`render_with`](Self::render_with).
    pub fn render(&self, name: &str, context: &Context) -> Result<String, MenuError> {
        self.render_with(name, context, &EmptyView)
    }

    /// The text of template `name`, with or without its `.tera`, for the client in `context`. What it looks up it
    /// finds in `view`.
    ///
    /// # Errors
    /// When there is no such template, it prints what is not defined or would break out of its line, or the text
    /// becomes longer than [`MAX_OUTPUT`].
    pub fn render_with(
        &self,
        name: &str,
        context: &Context,
        view: &dyn ConfigView,
    ) -> Result<String, MenuError> {
        let template = self.resolve(name)?;
        if let Some((template, language)) = self.labnet.get(template) {
            let name = context.client.label();
            return template.expand(labnet::Host { kind: CLIENT_TYPE, name: &name }, view, *language);
        }
        self.render_tera(template, context)
    }

    fn render_tera(&self, template: &str, context: &Context) -> Result<String, MenuError> {
        let language = self.languages.get(template).copied().unwrap_or(Language::Ipxe);
        let values = tera::Context::from_serialize(context)
            .map_err(|error| self.render_error(&error, template, language, context))?;
        let mut out = Bounded::default();
        self.tera(language)
            .render_to(template, &values, &mut out)
            .map_err(|error| self.render_error(&error, template, language, context))?;
        // Tera writes text only, so nothing is ever replaced here.
        Ok(String::from_utf8(out.bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    fn tera(&self, language: Language) -> &Tera {
        match language {
            Language::Ipxe => &self.ipxe,
            Language::Lines => &self.lines,
        }
    }

    fn resolve(&self, name: &str) -> Result<&str, MenuError> {
        let names = self.names();
        let found = names
            .iter()
            .find(|known| **known == name)
            .or_else(|| names.iter().find(|known| known.strip_suffix(TEMPLATE_SUFFIX) == Some(name)));
        found.copied().ok_or_else(|| MenuError::Unknown {
            name: name.escape_default().take(80).collect(),
            known: names.iter().map(|name| (*name).to_owned()).collect(),
        })
    }

    fn render_error(
        &self,
        error: &tera::Error,
        template: &str,
        language: Language,
        context: &Context,
    ) -> MenuError {
        let client = context.client.label();
        let cause =
            error.source().and_then(|source| source.downcast_ref::<io::Error>()).and_then(io::Error::get_ref);
        if let Some(Overflow) = cause.and_then(|cause| cause.downcast_ref()) {
            return MenuError::TooLong { place: Place::whole(template), limit: MAX_OUTPUT, client };
        }
        if let Some(Refused(reason)) = cause.and_then(|cause| cause.downcast_ref::<Refused>()) {
            let (place, variable) = self
                .locate(template, language, context)
                .unwrap_or_else(|| (Place::whole(template), "an expression".to_owned()));
            return MenuError::Value { place, variable, reason: (*reason).to_owned(), client };
        }
        match error.kind() {
            ErrorKind::RenderingError(report) | ErrorKind::SyntaxError(report) => {
                MenuError::Render { place: Place::of(report), reason: report.message().to_owned(), client }
            }
            kind => MenuError::Render { place: Place::whole(template), reason: kind.to_string(), client },
        }
    }

    /// Where a refused value was to be printed, and whose it is. Tera tells the place of what is undefined, but not
    /// of what its escape function refuses: so each value that would be refused is made undefined in turn.
    fn locate(&self, template: &str, language: Language, context: &Context) -> Option<(Place, String)> {
        let values = Value::from_serializable(context);
        let mut paths = Vec::new();
        refused_paths(&values, language, &mut Vec::new(), &mut paths);
        paths.into_iter().find_map(|path| {
            let values = tera::Context::from_serialize(&without(&values, &path)).ok()?;
            let error = self.tera(language).render_to(template, &values, io::sink()).err()?;
            match error.kind() {
                ErrorKind::RenderingError(report) => Some((Place::of(report), path.join("."))),
                _ => None,
            }
        })
    }
}

/// The paths, as `client.name`, of all values within `value` that can't be printed.
fn refused_paths(value: &Value, language: Language, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    if let Some(text) = value.as_str() {
        if language.objection(text).is_some() {
            found.push(path.clone());
        }
    } else if let Some(map) = value.as_map() {
        for (key, inner) in map {
            path.push(key.to_string());
            refused_paths(inner, language, path, found);
            path.pop();
        }
    } else if let Some(items) = value.as_array() {
        for (index, inner) in items.iter().enumerate() {
            path.push(index.to_string());
            refused_paths(inner, language, path, found);
            path.pop();
        }
    }
}

/// A copy of `value` in which what is at `path` is not defined.
fn without(value: &Value, path: &[String]) -> Value {
    let Some((first, rest)) = path.split_first() else { return Value::undefined() };
    if let Some(map) = value.as_map() {
        let kept = map.iter().filter_map(|(key, inner)| match key.as_str() == Some(first) {
            // What a map lacks is an error wherever it is printed; what it holds undefined is not.
            true if rest.is_empty() => None,
            true => Some((key.clone(), without(inner, rest))),
            false => Some((key.clone(), inner.clone())),
        });
        return Value::from(kept.collect::<tera::Map>());
    }
    let items = value.as_array().unwrap_or_default().iter().enumerate();
    let kept = items.map(|(index, inner)| match index.to_string() == *first {
        true => without(inner, rest),
        false => inner.clone(),
    });
    Value::from(kept.collect::<Vec<_>>())
}

fn load_error(error: &tera::Error) -> MenuError {
    match error.kind() {
        ErrorKind::SyntaxError(report) => {
            MenuError::Syntax { place: Place::of(report), reason: report.message().to_owned() }
        }
        kind => MenuError::Links { reason: kind.to_string() },
    }
}

/// In place of Tera's own, which yields a hundred thousand.
#[expect(clippy::needless_pass_by_value, reason = "Tera's signature for functions")]
fn range(kwargs: Kwargs, _: &State<'_>) -> TeraResult<Vec<i64>> {
    let start = kwargs.get::<i64>("start")?.unwrap_or_default();
    let end = kwargs.must_get::<i64>("end")?;
    let step = kwargs.get::<i64>("step_by")?.unwrap_or(1);
    if step <= 0 || start > end {
        return Err(tera::Error::message("range counts upwards: start <= end, and step_by > 0"));
    }
    let step = usize::try_from(step).unwrap_or(usize::MAX);
    let numbers: Vec<i64> = (start..end).step_by(step).take(MAX_RANGE + 1).collect();
    if numbers.len() > MAX_RANGE {
        return Err(tera::Error::message(format!("range yields at most {MAX_RANGE} numbers")));
    }
    Ok(numbers)
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
