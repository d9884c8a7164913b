//! The site as rows, and back: the same statements for both databases.
//!
//! `site` is one row: the newest revision, and a `stamp` that no other state of any site has. A revision keeps its
//! stamp and its `parent`, the stamp that it was made on, so whoever holds an earlier snapshot sees whether the
//! revisions since lead from it to what is there; if they don't, it was restored from a copy or changed by hand, and
//! is read anew. Triggers change the stamp with every row that is written by hand. `settled` is the stamp that bootd
//! gave last: while it is another, nobody has checked what is there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use super::Author;
use super::error::StoreError;
use super::sql::{Cell, Row, Sql};
use crate::Site;
use crate::entity::{
    Definition, Definitions, Effect, Entity, EntityId, Model, Revision, TypeDefinition, TypeName, Values,
    VariableName,
};

/// The most revisions that a snapshot is brought forward by one by one; for more the site is read anew.
const MAX_FOLLOWED: u64 = 1000;

/// The most rows that one statement writes. A power of two.
const MAX_ROWS: usize = 256;

/// Which state a database is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) revision: u64,
    pub(super) stamp: String,
    settled: String,
}

/// A snapshot and the state that it is of.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) site: Arc<Site>,
    pub(super) head: Head,
}

pub(super) fn head(sql: &mut dyn Sql) -> Result<Head, StoreError> {
    let mut head = None;
    sql.each("SELECT revision, stamp, settled FROM site", &[], &mut |row| {
        let revision = u64::try_from(row.number(0)?).unwrap_or(0);
        head = Some(Head { revision, stamp: row.text(1)?.to_owned(), settled: row.text(2)?.to_owned() });
        Ok(())
    })?;
    head.ok_or_else(|| bad_row(&sql.place(), "no row in table site", &"one belongs there"))
}

/// How a snapshot came to be.
#[derive(Debug)]
pub(super) enum How {
    /// It was known.
    Same,
    /// From the one with this stamp, by these effects.
    Followed { from: String, effects: Vec<Effect> },
    /// It was read from nothing.
    Anew,
}

impl How {
    /// What it comes to when `effects` follow.
    pub(super) fn and(self, before: &Head, effects: &[Effect]) -> Self {
        match self {
            Self::Same => Self::Followed { from: before.stamp.clone(), effects: effects.to_vec() },
            Self::Followed { from, effects: mut all } => {
                all.extend_from_slice(effects);
                Self::Followed { from, effects: all }
            }
            Self::Anew => Self::Anew,
        }
    }
}

/// The site as the open transaction sees it; cheap if `known` is not far behind.
pub(super) fn catch_up(sql: &mut dyn Sql, known: Option<&Known>) -> Result<(Known, How), StoreError> {
    let head = head(sql)?;
    if let Some(known) = known {
        if known.head == head {
            return Ok((known.clone(), How::Same));
        }
        if let Some((site, effects)) = follow(sql, known, &head)? {
            let from = known.head.stamp.clone();
            return Ok((Known { site: Arc::new(site), head }, How::Followed { from, effects }));
        }
    }
    let model = load(sql, head.revision)?;
    if head.stamp != head.settled {
        model.check().map_err(|error| bad_row(&sql.place(), "what was changed by hand", &error))?;
    }
    Ok((Known { site: Arc::new(Site::of(model)), head }, How::Anew))
}

/// The known site brought forward; `None`: the revisions don't lead from it to what is there.
fn follow(sql: &mut dyn Sql, known: &Known, head: &Head) -> Result<Option<(Site, Vec<Effect>)>, StoreError> {
    let from = known.head.revision;
    if head.revision <= from || head.revision - from > MAX_FOLLOWED {
        return Ok(None);
    }
    let place = sql.place();
    let mut stamp = known.head.stamp.clone();
    let mut site = Some(Site::clone(&known.site));
    let mut all = Vec::new();
    sql.each(
        "SELECT number, stamp, parent, effects FROM revision WHERE number > $1 ORDER BY number",
        &[from.into()],
        &mut |row| {
            let Some(now) = &site else { return Ok(()) };
            let fits =
                row.text(2)? == stamp && u64::try_from(row.number(0)?).ok() == Some(now.revision() + 1);
            let mut effects = effects(&place, row, 3)?;
            site = if fits { now.follow(&effects).ok() } else { None };
            all.append(&mut effects);
            row.text(1)?.clone_into(&mut stamp);
            Ok(())
        },
    )?;
    let site = site.filter(|site| site.revision() == head.revision && stamp == head.stamp);
    Ok(site.map(|site| (site, all)))
}

/// The whole site, read anew.
fn load(sql: &mut dyn Sql, revision: u64) -> Result<Model, StoreError> {
    let definitions = definitions(sql)?;
    let place = sql.place();
    let mut entities: BTreeMap<TypeName, Vec<Entity>> = BTreeMap::new();
    let mut ids: HashMap<TypeName, HashMap<String, EntityId>> = HashMap::new();
    sql.each("SELECT kind, name FROM entity", &[], &mut |row| {
        let id: EntityId = parsed(&place, "entity", &format!("{}/{}", row.text(0)?, row.text(1)?))?;
        ids.entry(id.kind.clone()).or_default().insert(id.name.to_string(), id);
        Ok(())
    })?;
    // A large site has few names of variables, many times each.
    let mut names: HashMap<String, VariableName> = HashMap::new();
    let mut gathering: Option<Gathering> = None;
    sql.each(
        "SELECT kind, name, variable, value FROM value ORDER BY kind, name, variable, position",
        &[],
        &mut |row| {
            let (kind, name, variable) = (row.text(0)?, row.text(1)?, row.text(2)?);
            if gathering.as_ref().is_none_or(|one| !one.is_of(kind, name)) {
                if let Some(done) = gathering.take() {
                    let entity = done.entity();
                    entities.entry(entity.id().kind.clone()).or_default().push(entity);
                }
                let id = ids.get_mut(kind).and_then(|ids| ids.remove(name));
                let id =
                    id.ok_or_else(|| bad_row(&place, &format!("value of {kind}/{name}"), &"no such entity"))?;
                gathering = Some(Gathering::of(id));
            }
            let variable = match names.get(variable) {
                Some(known) => known.clone(),
                None => {
                    let new: VariableName = parsed(&place, "variable", variable)?;
                    names.insert(variable.to_owned(), new.clone());
                    new
                }
            };
            if let Some(one) = &mut gathering {
                one.add(variable, row.text(3)?);
            }
            Ok(())
        },
    )?;
    let rest = ids.into_values().flat_map(HashMap::into_values).map(Entity::new);
    let last = gathering.map(Gathering::entity);
    Ok(Model::restore(revision, definitions, entities.into_values().flatten().chain(last).chain(rest)))
}

/// An entity whose rows are being read.
struct Gathering {
    id: EntityId,
    variables: Vec<(VariableName, Values)>,
    variable: Option<VariableName>,
    values: Vec<Box<str>>,
}

impl Gathering {
    fn of(id: EntityId) -> Self {
        Self { id, variables: Vec::new(), variable: None, values: Vec::new() }
    }

    fn is_of(&self, kind: &str, name: &str) -> bool {
        self.id.name.as_str() == name && self.id.kind.as_str() == kind
    }

    fn add(&mut self, variable: VariableName, value: &str) {
        if self.variable.as_ref() != Some(&variable) {
            self.settle();
            self.variable = Some(variable);
        }
        self.values.push(value.into());
    }

    fn settle(&mut self) {
        if let Some(variable) = self.variable.take() {
            self.variables.push((variable, self.values.drain(..).collect()));
        }
    }

    fn entity(mut self) -> Entity {
        self.settle();
        Entity::with(self.id, self.variables)
    }
}

fn definitions(sql: &mut dyn Sql) -> Result<Definitions, StoreError> {
    let place = sql.place();
    let mut types: Vec<(TypeName, TypeDefinition)> = Vec::new();
    let mut variables: Vec<(TypeName, VariableName, Definition)> = Vec::new();
    sql.each("SELECT kind, variable, definition FROM definition", &[], &mut |row| {
        let kind: TypeName = parsed(&place, "definition", row.text(0)?)?;
        match row.text(1)? {
            "" => types.push((kind, json(&place, "definition", row.text(2)?)?)),
            variable => {
                let variable = parsed(&place, "definition", variable)?;
                variables.push((kind, variable, json(&place, "definition", row.text(2)?)?));
            }
        }
        Ok(())
    })?;
    Ok(Definitions::shipped_and(types, variables))
}

/// Writes what `effects` changed, as it is in `site`, and the revision that says so. `stamp` is the new state's.
pub(super) fn write(
    sql: &mut dyn Sql,
    before: &Head,
    site: &Site,
    effects: &[Effect],
    by: &Author,
    stamp: &str,
) -> Result<Head, StoreError> {
    let touched = write_content(sql, site.model(), effects)?;
    let revision = site.revision();
    let text = serde_json::to_string(effects)
        .map_err(|error| StoreError::Unwritable { reason: error.to_string() })?;
    let at = jiff::Timestamp::now().to_string();
    sql.execute(
        "INSERT INTO revision (number, stamp, parent, at, who, why, effects) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        &[
            revision.into(),
            stamp.into(),
            before.stamp.as_str().into(),
            at.as_str().into(),
            by.who.as_str().into(),
            by.why.as_deref().into(),
            text.as_str().into(),
        ],
    )?;
    let concerned: Vec<[Cell<'_>; 3]> = touched
        .iter()
        .map(|id| [id.kind.as_str().into(), id.name.as_str().into(), revision.into()])
        .collect();
    insert(sql, "INSERT INTO concern (kind, name, number)", &concerned)?;
    settle(sql, revision, stamp)
}

/// Writes what `effects` changed, as it is in `model`; and says which entities those are.
pub(super) fn write_content<'a>(
    sql: &mut dyn Sql,
    model: &Model,
    effects: &'a [Effect],
) -> Result<Vec<&'a EntityId>, StoreError> {
    let touched = Touched::by(effects);
    write_entities(sql, model, &touched)?;
    write_definitions(sql, model, effects)?;
    Ok(touched.entities.into_keys().collect())
}

/// Writes the whole of `model` in place of what is there.
#[cfg(feature = "postgres")]
pub(super) fn replace_content(sql: &mut dyn Sql, model: &Model) -> Result<(), StoreError> {
    for table in ["value", "entity", "definition", "concern", "revision"] {
        sql.execute(&format!("DELETE FROM {table}"), &[])?;
    }
    let all: Vec<_> = model.all().collect();
    // In parts, so that not all rows are held at once.
    for entities in all.chunks(1000) {
        let created = entities.iter().map(|entity| Effect::Created { entity: entity.id().clone() });
        let sets = entities.iter().flat_map(|entity| {
            entity.variables().map(|(variable, _)| Effect::Set {
                entity: entity.id().clone(),
                variable: variable.clone(),
                old: Values::default(),
                new: Values::default(),
            })
        });
        write_content(sql, model, &created.chain(sets).collect::<Vec<_>>())?;
    }
    let shipped = Definitions::shipped();
    let mut defined = Vec::new();
    for (kind, definition) in model.definitions().iter() {
        let Some(ours) = shipped.get(kind.as_str()) else {
            defined.push(Effect::DefinedType { kind: kind.clone(), old: None, new: None });
            continue;
        };
        let added = definition.variables.keys().filter(|variable| !ours.variables.contains_key(*variable));
        defined.extend(added.map(|variable| Effect::Defined {
            kind: kind.clone(),
            variable: variable.clone(),
            old: None,
            new: None,
        }));
    }
    write_definitions(sql, model, &defined)
}

/// Says which state the database is in now.
pub(super) fn settle(sql: &mut dyn Sql, revision: u64, stamp: &str) -> Result<Head, StoreError> {
    sql.execute(
        "UPDATE site SET revision = $1, stamp = $2, settled = $3",
        &[revision.into(), stamp.into(), stamp.into()],
    )?;
    Ok(Head { revision, stamp: stamp.to_owned(), settled: stamp.to_owned() })
}

/// What effects come to, for each entity.
#[derive(Default)]
struct Touched<'a> {
    entities: BTreeMap<&'a EntityId, OfEntity<'a>>,
}

#[derive(Default)]
struct OfEntity<'a> {
    /// It was there before.
    was: bool,
    /// Variables that were set anew, and whether they had values before.
    variables: BTreeMap<&'a VariableName, bool>,
}

impl<'a> Touched<'a> {
    fn by(effects: &'a [Effect]) -> Self {
        let mut touched = Self::default();
        for effect in effects {
            let (Effect::Created { entity } | Effect::Removed { entity } | Effect::Set { entity, .. }) =
                effect
            else {
                continue;
            };
            let of = touched.entities.entry(entity).or_insert_with(|| OfEntity {
                was: !matches!(effect, Effect::Created { .. }),
                ..OfEntity::default()
            });
            if let Effect::Set { variable, old, .. } = effect {
                let had = of.was && !old.is_empty();
                of.variables.entry(variable).or_insert(had);
            }
        }
        touched
    }
}

fn write_entities(sql: &mut dyn Sql, model: &Model, touched: &Touched<'_>) -> Result<(), StoreError> {
    let mut entities: Vec<[Cell<'_>; 2]> = Vec::new();
    let mut values: Vec<[Cell<'_>; 5]> = Vec::new();
    for (id, of) in &touched.entities {
        let (kind, name) = (Cell::from(id.kind.as_str()), Cell::from(id.name.as_str()));
        let Some(entity) = model.get(id.kind.as_str(), id.name.as_str()) else {
            if of.was {
                sql.execute("DELETE FROM value WHERE kind = $1 AND name = $2", &[kind, name])?;
                sql.execute("DELETE FROM entity WHERE kind = $1 AND name = $2", &[kind, name])?;
            }
            continue;
        };
        if !of.was {
            entities.push([kind, name]);
        }
        for (variable, had) in &of.variables {
            if *had {
                sql.execute(
                    "DELETE FROM value WHERE kind = $1 AND name = $2 AND variable = $3",
                    &[kind, name, variable.as_str().into()],
                )?;
            }
            let new = entity.get(variable.as_str()).into_iter().flat_map(Values::iter).zip(0_u64..);
            values.extend(
                new.map(|(value, at)| [kind, name, variable.as_str().into(), at.into(), value.into()]),
            );
        }
    }
    insert(sql, "INSERT INTO entity (kind, name)", &entities)?;
    insert(sql, "INSERT INTO value (kind, name, variable, position, value)", &values)
}

/// Inserts rows, many by one statement. The counts are powers of two, so that there are few statements to prepare.
fn insert<const N: usize>(sql: &mut dyn Sql, into: &str, rows: &[[Cell<'_>; N]]) -> Result<(), StoreError> {
    let mut rest = rows;
    while !rest.is_empty() {
        let count = MAX_ROWS.min(1 << rest.len().ilog2());
        let (now, later) = rest.split_at(count);
        let row = |row: usize| {
            let cells: Vec<_> = (1..=N).map(|cell| format!("${}", row * N + cell)).collect();
            format!("({})", cells.join(", "))
        };
        let all: Vec<_> = (0..count).map(row).collect();
        sql.execute(&format!("{into} VALUES {}", all.join(", ")), now.as_flattened())?;
        rest = later;
    }
    Ok(())
}

/// A type of the admin's is one row, with all its variables; a variable that the admin added to one of ours is a row.
fn write_definitions(sql: &mut dyn Sql, model: &Model, effects: &[Effect]) -> Result<(), StoreError> {
    let mut rows: BTreeSet<(&TypeName, Option<&VariableName>)> = BTreeSet::new();
    for effect in effects {
        match effect {
            Effect::DefinedType { kind, .. } => rows.insert((kind, None)),
            Effect::Defined { kind, variable, .. } => {
                let is_shipped = Definitions::shipped().get(kind.as_str()).is_some();
                rows.insert((kind, is_shipped.then_some(variable)))
            }
            _ => continue,
        };
    }
    for (kind, variable) in rows {
        let column = variable.map_or("", VariableName::as_str);
        let place = [Cell::from(kind.as_str()), Cell::from(column)];
        sql.execute("DELETE FROM definition WHERE kind = $1 AND variable = $2", &place)?;
        let Some(definition) = model.definitions().get(kind.as_str()) else { continue };
        let text = match variable {
            None => serde_json::to_string(definition),
            Some(variable) => match definition.variables.get(variable) {
                Some(definition) => serde_json::to_string(definition),
                None => continue,
            },
        };
        let text = text.map_err(|error| StoreError::Unwritable { reason: error.to_string() })?;
        let row = [kind.as_str().into(), column.into(), text.as_str().into()];
        insert(sql, "INSERT INTO definition (kind, variable, definition)", &[row])?;
    }
    Ok(())
}

/// The newest revisions before `before`, the newest first; `of`: those that changed that entity.
pub(super) fn log(
    sql: &mut dyn Sql,
    of: Option<&EntityId>,
    before: u64,
    limit: u64,
) -> Result<Vec<Revision>, StoreError> {
    let place = sql.place();
    let mut revisions = Vec::new();
    let mut take = |row: &dyn Row| {
        let at = row.text(1)?;
        revisions.push(Revision {
            number: u64::try_from(row.number(0)?).unwrap_or(0),
            at: at.parse().map_err(|error| bad_row(&place, "revision", &error))?,
            who: row.text(2)?.to_owned(),
            why: row.text_or_null(3)?.map(ToOwned::to_owned),
            effects: effects(&place, row, 4)?,
        });
        Ok(())
    };
    const COLUMNS: &str = "SELECT r.number, r.at, r.who, r.why, r.effects FROM revision r";
    match of {
        None => sql.each(
            &format!("{COLUMNS} WHERE r.number < $1 ORDER BY r.number DESC LIMIT $2"),
            &[before.into(), limit.into()],
            &mut take,
        )?,
        Some(id) => sql.each(
            &format!(
                "{COLUMNS} JOIN concern c ON c.number = r.number WHERE c.kind = $1 AND c.name = $2 \
                 AND c.number < $3 ORDER BY r.number DESC LIMIT $4"
            ),
            &[id.kind.as_str().into(), id.name.as_str().into(), before.into(), limit.into()],
            &mut take,
        )?,
    }
    Ok(revisions)
}

fn effects(place: &str, row: &dyn Row, column: usize) -> Result<Vec<Effect>, StoreError> {
    json(place, "revision", row.text(column)?)
}

fn json<T: serde::de::DeserializeOwned>(place: &str, what: &str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| bad_row(place, what, &error))
}

fn parsed<T: FromStr<Err: Display>>(place: &str, what: &str, text: &str) -> Result<T, StoreError> {
    text.parse().map_err(|error: T::Err| bad_row(place, what, &error))
}

fn bad_row(place: &str, row: &str, reason: &dyn Display) -> StoreError {
    let row = row.escape_debug().take(160).collect();
    StoreError::BadRow { place: place.to_owned(), row, reason: reason.to_string() }
}
