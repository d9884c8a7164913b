//! The functions with which a template looks things up in the site: `var`, `vars`, `table`, `entities`, `find`, `conf`.
//! Without `type` and `entity` they are about the client that boots. And `range` and the [guard](super::guard)'s steps,
//! as they share one rendering's bounds.
//!
//! Tera's functions are registered once and are handed no state of ours, so what they look in stands in the thread
//! that renders, for as long as it renders.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use tera::{Error, Kwargs, State, Tera, TeraResult, Value};

use super::guard::STEP;
use super::variables;
use crate::escape::Language;
use crate::labnet::Host;
use crate::menus::{MAX_LOOKED_UP, MAX_OUTPUT, MAX_RANGE};
use crate::stop::Stop;
use crate::view::ConfigView;

/// The most bytes that one variable of a template may hold. More is an error.
pub(super) const MAX_VARIABLE: usize = MAX_OUTPUT;

/// How deep lists and maps may nest in a variable. Deeper is an error: to look at them, and to let go of them, takes
/// stack.
const MAX_DEPTH: usize = 16;

/// What an item of a list takes, be it empty.
const ITEM: usize = 16;

/// How much a template may do, in what [`guard`](super::guard) counts: about 250,000 turns of loops. More is an error.
const MAX_WORK: usize = 16 << 20;

/// The most bytes that all values together may have that a template looks up. More is an error.
const MAX_LOOKED_UP_BYTES: usize = 16 << 20;

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
    /// How much was looked up so far, in values and in bytes.
    looked_up: Cell<usize>,
    looked_up_bytes: Cell<usize>,
    /// How much was done so far, as the guard's steps count it.
    done: Cell<usize>,
    stop: Stop,
}

/// What this thread's templates look in, until dropped.
pub(super) struct Scope {
    outer: Option<Scoped>,
}

impl Scope {
    pub(super) fn enter(
        view: Arc<dyn ConfigView>,
        host: Host<'_>,
        language: Language,
        wary: bool,
        stop: &Stop,
    ) -> Self {
        let scoped = Scoped {
            view,
            kind: host.kind.to_owned(),
            name: host.name.to_owned(),
            language,
            wary,
            looked_up: Cell::new(0),
            looked_up_bytes: Cell::new(0),
            done: Cell::new(0),
            stop: stop.clone(),
        };
        Self { outer: SCOPE.replace(Some(scoped)) }
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        SCOPE.set(self.outer.take());
    }
}

/// Whether this thread's rendering was told to end.
pub(super) fn is_stopped() -> bool {
    SCOPE.with_borrow(|scope| scope.as_ref().is_some_and(|scope| scope.stop.is_stopped()))
}

/// The value that a wary look-up refused last, as `VARIABLE of TYPE ENTITY`.
pub(super) fn last_refused() -> Option<String> {
    REFUSED.take()
}

pub(super) fn register(tera: &mut Tera) {
    tera.register_function("range", range);
    tera.register_function(STEP, step);
    tera.register_function("var", var);
    tera.register_function("vars", vars);
    tera.register_function("table", table);
    tera.register_function("entities", entities);
    tera.register_function("entity", entity);
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

    fn count_bytes(&self, bytes: usize) -> TeraResult<()> {
        let count = self.looked_up_bytes.get().saturating_add(bytes);
        self.looked_up_bytes.set(count);
        if count <= MAX_LOOKED_UP_BYTES {
            return Ok(());
        }
        Err(Error::message(format!(
            "the values that a template looks up may have {MAX_LOOKED_UP_BYTES} bytes, these have more"
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
        self.count_bytes(values.iter().map(|value| value.len()).sum())?;
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
        scope.count_bytes(rows.iter().flatten().map(|(_, value)| value.len()).sum())?;
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

/// `entity(type, entity)`: all variables of an entity, as a map, and its `name`. One that does not exist has none.
#[expect(clippy::needless_pass_by_value, reason = "Tera's signature for functions")]
fn entity(kwargs: Kwargs, _: &State<'_>) -> TeraResult<Value> {
    scoped(|scope| {
        let (kind, entity) = scope.subject(&kwargs)?;
        let all = scope.view.variables(kind, entity);
        scope.count(all.iter().map(|variable| variable.values.len()).sum())?;
        scope.count_bytes(all.iter().flat_map(|variable| &variable.values).map(|value| value.len()).sum())?;
        for (variable, value) in all.iter().flat_map(|v| v.values.iter().map(move |value| (v.name, value))) {
            scope.check(value, || format!("{variable} of {kind} {entity}"))?;
        }
        let mut name = tera::Map::new();
        name.insert("name".into(), Value::normal_string(entity));
        Ok(variables(all, &Value::from(name)))
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

/// What the guard calls: counts, and looks at a variable that was set. Never true.
#[expect(clippy::needless_pass_by_value, reason = "Tera's signature for functions")]
fn step(kwargs: Kwargs, _: &State<'_>) -> TeraResult<bool> {
    scoped(|scope| {
        if scope.stop.is_stopped() {
            return Err(Error::message("it was told to end"));
        }
        let cost = usize::try_from(kwargs.must_get::<i64>("cost")?).unwrap_or(usize::MAX);
        let done = scope.done.get().saturating_add(cost);
        scope.done.set(done);
        if done > MAX_WORK {
            return Err(Error::message("the template goes round in its loops too often"));
        }
        let value = kwargs.get::<Value>("value")?;
        if value.is_some_and(|value| !fits(&value, MAX_DEPTH, &mut MAX_VARIABLE.clone())) {
            return Err(Error::message(format!(
                "a variable may hold {MAX_VARIABLE} bytes, {MAX_DEPTH} lists deep; this one becomes larger"
            )));
        }
        Ok(false)
    })
}

/// Whether a value nests at most so deep and takes at most the bytes that are left.
fn fits(value: &Value, depth: usize, left: &mut usize) -> bool {
    let own = value.as_str().map_or(ITEM, str::len);
    let Some((depth, rest)) = depth.checked_sub(1).zip(left.checked_sub(own)) else { return false };
    *left = rest;
    if let Some(items) = value.as_array() {
        items.iter().all(|item| fits(item, depth, left))
    } else if let Some(map) = value.as_map() {
        map.values().all(|item| fits(item, depth, left))
    } else {
        true
    }
}

/// `join([sep])`, in place of Tera's own, which has no bound.
#[expect(clippy::needless_pass_by_value, reason = "Tera's signature for filters")]
pub(super) fn join(value: &[Value], kwargs: Kwargs, _: &State<'_>) -> TeraResult<String> {
    let separator = kwargs.get::<&str>("sep")?.unwrap_or_default();
    let mut joined = String::new();
    for (index, item) in value.iter().enumerate() {
        if index > 0 {
            joined.push_str(separator);
        }
        match item.as_str() {
            Some(text) => joined.push_str(text),
            None => joined.push_str(&item.to_string()),
        }
        within(joined.len(), "join")?;
    }
    Ok(joined)
}

/// `replace(from, to)`, in place of Tera's own, which has no bound.
#[expect(clippy::needless_pass_by_value, reason = "Tera's signature for filters")]
pub(super) fn replace(value: &str, kwargs: Kwargs, _: &State<'_>) -> TeraResult<String> {
    let (from, to) = (kwargs.must_get::<&str>("from")?, kwargs.must_get::<&str>("to")?);
    let found = value.matches(from).count();
    within(value.len().saturating_add(found.saturating_mul(to.len())), "replace")?;
    Ok(value.replace(from, to))
}

pub(super) fn within(length: usize, filter: &str) -> TeraResult<()> {
    if length <= MAX_VARIABLE {
        return Ok(());
    }
    Err(Error::message(format!("{filter} makes at most {MAX_VARIABLE} bytes, this would be more")))
}

fn list(values: Vec<&str>) -> Value {
    Value::from(values.into_iter().map(Value::normal_string).collect::<Vec<_>>())
}
