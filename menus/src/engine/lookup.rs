//! The functions with which a template looks things up in the site: `var`, `vars`, `table`, `entities`, `find`, `conf`.
//! Without `type` and `entity` they are about the client that boots. And `range`, as they share one bound.
//!
//! Tera's functions are registered once and are handed no state of ours, so what they look in stands in the thread
//! that renders, for as long as it renders.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use tera::{Error, Kwargs, State, Tera, TeraResult, Value};

use crate::escape::Language;
use crate::labnet::Host;
use crate::menus::{MAX_LOOKED_UP, MAX_RANGE};
use crate::view::ConfigView;

/// The type that `conf` looks in.
pub(super) const APP_TYPE: &str = "app";

thread_local! {
    static SCOPE: RefCell<Option<Scoped>> = const { RefCell::new(None) };
    static REFUSED: RefCell<Option<String>> = const { RefCell::new(None) };
}

struct Scoped {
    view: Arc<dyn ConfigView>,
    kind: String,
    name: String,
    language: Language,
    /// Whether values that can't be printed are refused here already, where their place is known.
    wary: bool,
    /// How much was looked up so far.
    looked_up: Cell<usize>,
}

/// What this thread's templates look in, until dropped.
pub(super) struct Scope {
    outer: Option<Scoped>,
}

impl Scope {
    pub(super) fn enter(view: Arc<dyn ConfigView>, host: Host<'_>, language: Language, wary: bool) -> Self {
        let (kind, name) = (host.kind.to_owned(), host.name.to_owned());
        let looked_up = Cell::new(0);
        let outer = SCOPE.replace(Some(Scoped { view, kind, name, language, wary, looked_up }));
        Self { outer }
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        SCOPE.set(self.outer.take());
    }
}

/// The value that a wary look-up refused last, as `VARIABLE of TYPE ENTITY`.
pub(super) fn last_refused() -> Option<String> {
    REFUSED.take()
}

pub(super) fn register(tera: &mut Tera) {
    tera.register_function("range", range);
    tera.register_function("var", var);
    tera.register_function("vars", vars);
    tera.register_function("table", table);
    tera.register_function("entities", entities);
    tera.register_function("find", find);
    tera.register_function("conf", conf);
}

fn scoped<T>(work: impl FnOnce(&Scoped) -> TeraResult<T>) -> TeraResult<T> {
    SCOPE.with_borrow(|scope| match scope {
        Some(scope) => work(scope),
        None => Err(Error::message("there is no site to look in")),
    })
}

impl Scoped {
    /// Counts a call that yields so many values. A loop's passes are mostly made of these, so that a template which
    /// loops far too long mostly ends here.
    fn count(&self, values: usize) -> TeraResult<()> {
        let count = self.looked_up.get().saturating_add(1 + values);
        self.looked_up.set(count);
        if count <= MAX_LOOKED_UP {
            return Ok(());
        }
        Err(Error::message(format!(
            "a template may look up {MAX_LOOKED_UP} values and numbers, this one wants more"
        )))
    }

    /// The type and name that a call is about.
    fn subject<'a>(&'a self, kwargs: &'a Kwargs) -> TeraResult<(&'a str, &'a str)> {
        let kind = kwargs.get::<&str>("type")?.unwrap_or(&self.kind);
        match kwargs.get::<&str>("entity")? {
            Some(name) => Ok((kind, name)),
            None if kind == self.kind => Ok((kind, &self.name)),
            None => Err(Error::message(format!("type=\"{kind}\" needs entity=\"NAME\" beside it"))),
        }
    }

    fn values<'a>(&'a self, kind: &str, entity: &str, variable: &str) -> TeraResult<Vec<&'a str>> {
        let values = self.view.values(kind, entity, variable);
        self.count(values.len())?;
        values.iter().try_for_each(|value| self.check(value, || format!("{variable} of {kind} {entity}")))?;
        Ok(values)
    }

    fn check(&self, value: &str, subject: impl Fn() -> String) -> TeraResult<()> {
        match self.language.objection(value).filter(|_| self.wary) {
            Some(reason) => {
                REFUSED.set(Some(subject()));
                Err(Error::message(reason))
            }
            None => Ok(()),
        }
    }

    /// The one value that a call wants.
    fn one(&self, kwargs: &Kwargs, kind: &str, entity: &str, variable: &str) -> TeraResult<Value> {
        if let Some(value) = self.values(kind, entity, variable)?.first() {
            return Ok(Value::normal_string(value));
        }
        match kwargs.get::<Value>("default")? {
            Some(default) => Ok(default),
            None if self.view.has_entity(kind, entity) => Err(Error::message(format!(
                "{kind} {entity} has no {variable}; give it one, or say default=\"...\" here"
            ))),
            None => Err(Error::message(format!("there is no {kind} {entity}"))),
        }
    }
}

/// `var(name, [type], [entity], [default])`: a variable's first value.
#[expect(clippy::needless_pass_by_value, reason = "Tera's signature for functions")]
fn var(kwargs: Kwargs, _: &State<'_>) -> TeraResult<Value> {
    scoped(|scope| {
        let (kind, entity) = scope.subject(&kwargs)?;
        scope.one(&kwargs, kind, entity, kwargs.must_get::<&str>("name")?)
    })
}

/// `vars(name, [type], [entity])`: all of a variable's values; none where it is not set.
#[expect(clippy::needless_pass_by_value, reason = "Tera's signature for functions")]
fn vars(kwargs: Kwargs, _: &State<'_>) -> TeraResult<Value> {
    scoped(|scope| {
        let (kind, entity) = scope.subject(&kwargs)?;
        Ok(list(scope.values(kind, entity, kwargs.must_get::<&str>("name")?)?))
    })
}

/// `table(name, [type], [entity])`: a table's rows, each a map of its columns.
#[expect(clippy::needless_pass_by_value, reason = "Tera's signature for functions")]
fn table(kwargs: Kwargs, _: &State<'_>) -> TeraResult<Value> {
    scoped(|scope| {
        let (kind, entity) = scope.subject(&kwargs)?;
        let rows = scope.view.rows(kind, entity, kwargs.must_get::<&str>("name")?);
        scope.count(rows.iter().map(Vec::len).sum())?;
        for (column, value) in rows.iter().flatten() {
            scope.check(value, || format!("{column} of {kind} {entity}"))?;
        }
        let rows = rows
            .into_iter()
            .map(|row| Value::from_serializable(&row.into_iter().collect::<BTreeMap<_, _>>()));
        Ok(Value::from(rows.collect::<Vec<_>>()))
    })
}

/// `entities(type)`: the names of all entities of a type.
#[expect(clippy::needless_pass_by_value, reason = "Tera's signature for functions")]
fn entities(kwargs: Kwargs, _: &State<'_>) -> TeraResult<Value> {
    scoped(|scope| {
        let names = scope.view.entities(kwargs.must_get::<&str>("type")?);
        scope.count(names.len())?;
        Ok(list(names))
    })
}

/// `find(type, VARIABLE=VALUE, ...)`: the names of the entities of a type for which all of that holds.
#[expect(clippy::needless_pass_by_value, reason = "Tera's signature for functions")]
fn find(kwargs: Kwargs, _: &State<'_>) -> TeraResult<Value> {
    scoped(|scope| {
        let kind = kwargs.must_get::<&str>("type")?;
        let mut found: Option<Vec<&str>> = None;
        for (variable, value) in kwargs.iter().filter(|(key, _)| key.as_str() != Some("type")) {
            let variable = variable.to_string();
            let Some(value) = value.as_str() else {
                return Err(Error::message(format!("{variable}: find compares with a text")));
            };
            let having = scope.view.having(kind, &variable, value);
            scope.count(having.len())?;
            found = Some(match found {
                None => having,
                Some(found) => found.into_iter().filter(|name| having.binary_search(name).is_ok()).collect(),
            });
        }
        let found = found.ok_or_else(|| Error::message("find needs VARIABLE=\"VALUE\" beside type"))?;
        Ok(list(found))
    })
}

/// `conf(entity, name, [default])`: a setting of an application.
#[expect(clippy::needless_pass_by_value, reason = "Tera's signature for functions")]
fn conf(kwargs: Kwargs, _: &State<'_>) -> TeraResult<Value> {
    scoped(|scope| {
        let (entity, name) = (kwargs.must_get::<&str>("entity")?, kwargs.must_get::<&str>("name")?);
        scope.one(&kwargs, APP_TYPE, entity, name)
    })
}

/// `range(end, [start], [step_by])`, in place of Tera's own, which yields a hundred thousand each time.
#[expect(clippy::needless_pass_by_value, reason = "Tera's signature for functions")]
fn range(kwargs: Kwargs, _: &State<'_>) -> TeraResult<Vec<i64>> {
    let start = kwargs.get::<i64>("start")?.unwrap_or_default();
    let end = kwargs.must_get::<i64>("end")?;
    let step = kwargs.get::<i64>("step_by")?.unwrap_or(1);
    if step <= 0 || start > end {
        return Err(Error::message("range counts upwards: start <= end, and step_by > 0"));
    }
    let step = usize::try_from(step).unwrap_or(usize::MAX);
    let numbers: Vec<i64> = (start..end).step_by(step).take(MAX_RANGE + 1).collect();
    if numbers.len() > MAX_RANGE {
        return Err(Error::message(format!("range yields at most {MAX_RANGE} numbers")));
    }
    scoped(|scope| scope.count(numbers.len()))?;
    Ok(numbers)
}

fn list(values: Vec<&str>) -> Value {
    Value::from(values.into_iter().map(Value::normal_string).collect::<Vec<_>>())
}
