//! Where a value that was refused was to be printed, and whose it is.
//!
//! Tera tells the place of what is undefined, but not of what its escape function refuses. So the template is rendered
//! again, once for each value that would be refused, with that value left out; and then once with the look-ups
//! refusing such values themselves, since a function's error has a place.

use std::io;
use std::sync::Arc;

use tera::{ErrorKind, Value};

use super::{Engine, Request, lookup};
use crate::error::{MenuError, Place};
use crate::escape::Language;

impl Engine {
    /// The error for a value that was refused for `reason`.
    pub(super) fn refusal(&self, request: &Request<'_>, values: &Value, reason: &str) -> MenuError {
        let (place, variable) = self
            .locate(request, values)
            .unwrap_or_else(|| (Place::whole(request.template), "an expression".to_owned()));
        MenuError::Value { place, variable, reason: reason.to_owned(), client: request.host.name.to_owned() }
    }

    fn locate(&self, request: &Request<'_>, values: &Value) -> Option<(Place, String)> {
        let mut paths = Vec::new();
        refused_paths(values, request.language, &mut Vec::new(), &mut paths);
        let in_context = paths.into_iter().find_map(|path| {
            let place = self.place_of_error(request, &without(values, &path), false)?;
            Some((place, path.join(".")))
        });
        in_context.or_else(|| {
            let place = self.place_of_error(request, values, true)?;
            Some((place, lookup::last_refused()?))
        })
    }

    fn place_of_error(&self, request: &Request<'_>, values: &Value, wary: bool) -> Option<Place> {
        let _scope = lookup::Scope::enter(
            Arc::clone(request.view),
            request.host,
            request.language,
            wary,
            request.stop,
        );
        let values = super::context_of(values);
        let error = self.tera(request.language).render_to(request.template, &values, io::sink()).err()?;
        match error.kind() {
            ErrorKind::RenderingError(report) => Some(self.place(report)),
            _ => None,
        }
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
