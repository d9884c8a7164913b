//! Labnet's own files: `TYPE/NAME`, each the variables of one entity as XML.
//!
//! The values are `<value indx="N">TEXT</value>`, in the order of N. Which variable they are of is said by what is
//! around them: an attribute that names it, or else the element's name. All elements further out are only folders. What
//! a type or a variable is, Labnet's files do not say: what bootd does not know is defined as plainly as its values
//! allow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use roxmltree::{Document, Node, ParsingOptions};

use super::desired::{Desired, DesiredType};
use super::error::{ExchangeError, Place};
use super::tree::MAX_FILE;
use crate::entity::{
    Definition, Definitions, Editing, EntityId, EntityName, TypeDefinition, TypeName, Values, VariableName,
};

/// The most XML nodes of one file. A file of more is refused.
const MAX_XML_NODES: u32 = 1 << 20;

/// The greatest place that a value may name.
const MAX_INDEX: u32 = 1 << 20;

/// The attributes that may name a variable.
const NAMING: [&str; 4] = ["name", "var", "variable", "id"];

/// What bootd calls otherwise.
const RENAMED: [(&str, &str, &str); 1] = [("client", "mac_address", "mac")];

/// One file of the tree.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LabnetFile {
    /// The folder's name.
    #[serde(rename = "type")]
    pub kind: String,
    /// The file's name.
    pub name: String,
    /// Where it lies, for errors.
    pub path: String,
    /// What is in it.
    pub text: String,
}

/// How the tree is read.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LabnetOptions {
    /// Types to be called otherwise.
    pub types: BTreeMap<String, TypeName>,
    /// Variables to be called otherwise, by Labnet's type and name. These come before bootd's own, which is
    /// `mac_address` of clients as `mac`; naming one as itself keeps its name.
    pub variables: Vec<(String, String, VariableName)>,
}

/// Reads a tree. `definitions` are those of the site that it is for.
///
/// # Errors
/// When a file is no XML, or holds what can't be a site's.
pub fn labnet(
    files: &[LabnetFile],
    options: &LabnetOptions,
    definitions: &Definitions,
) -> Result<Desired, ExchangeError> {
    let total: usize = files.iter().map(|file| file.text.len()).sum();
    if total > MAX_FILE {
        let place = Place::whole(&files.first().map_or("", |file| &file.path).into());
        return Err(
            place.wrong(format!("the files have {total} bytes, {MAX_FILE} are allowed; import type by type"))
        );
    }
    let mut reader = Reader { options, desired: Desired::default(), renamed: BTreeSet::new(), empty: 0 };
    for file in files {
        reader.file(file)?;
    }
    reader.define(definitions);
    Ok(reader.desired)
}

struct Reader<'a> {
    options: &'a LabnetOptions,
    desired: Desired,
    renamed: BTreeSet<String>,
    /// How many variables had nothing but empty values.
    empty: usize,
}

impl Reader<'_> {
    fn file(&mut self, file: &LabnetFile) -> Result<(), ExchangeError> {
        let path: Arc<str> = file.path.as_str().into();
        let whole = Place::whole(&path);
        let name_wrong = |error: crate::NameError| whole.wrong(error.to_string());
        let kind: TypeName = match self.options.types.get(&file.kind) {
            Some(kind) => kind.clone(),
            None => file.kind.parse().map_err(name_wrong)?,
        };
        let name: EntityName = file.name.parse().map_err(name_wrong)?;
        let options =
            ParsingOptions { allow_dtd: false, nodes_limit: MAX_XML_NODES, ..ParsingOptions::default() };
        let document = Document::parse_with_options(&file.text, options).map_err(|error| {
            let at = error.pos();
            let text = error.to_string();
            let reason = text.rsplit_once(" at ").map_or(text.as_str(), |(reason, _)| reason);
            Place { file: Arc::clone(&path), line: at.row as usize, column: at.col as usize }.wrong(reason)
        })?;
        let mut variables: BTreeMap<String, (Place, Vec<(u32, String)>)> = BTreeMap::new();
        for value in document.descendants().filter(|node| node.has_tag_name("value")) {
            let at = document.text_pos_at(value.range().start);
            let place = Place { file: Arc::clone(&path), line: at.row as usize, column: at.col as usize };
            let variable = variable_of(value).ok_or_else(|| {
                place.wrong(
                    "this value is of no variable: an element with the variable's name must be around it",
                )
            })?;
            let (_, all) =
                variables.entry(variable.to_owned()).or_insert_with(|| (place.clone(), Vec::new()));
            let next = u32::try_from(all.len()).unwrap_or(MAX_INDEX) + 1;
            let index = match attribute(value, &["indx", "index"]) {
                Some(text) => {
                    text.trim().parse().ok().filter(|index| *index <= MAX_INDEX).ok_or_else(|| {
                        place.wrong(format!(
                            "indx=\"{}\" is no place in a list, for example 1",
                            text.escape_debug()
                        ))
                    })?
                }
                None => next,
            };
            if all.iter().any(|(other, _)| *other == index) {
                return Err(place.wrong(format!("{variable}: two values have indx=\"{index}\"")));
            }
            all.push((index, text_of(value)));
        }
        let id = EntityId::new(kind, name);
        let entity = self.desired.entity(id.clone(), whole)?;
        for (variable, (place, mut values)) in variables {
            values.sort_by_key(|(index, _)| *index);
            // Labnet's way to say that there is none.
            if values.iter().all(|(_, value)| value.is_empty()) {
                self.empty += 1;
                continue;
            }
            let given = self.options.variables.iter();
            let renamed = given
                .filter(|(kind, name, _)| *kind == file.kind && *name == variable)
                .map(|(_, _, to)| to.clone())
                .next();
            let own =
                || RENAMED.iter().find(|(kind, name, _)| id.kind.as_str() == *kind && *name == variable);
            let name: VariableName = match (renamed, own()) {
                (Some(to), _) => to,
                (None, Some((_, _, to))) => {
                    self.renamed.insert(format!("{variable} of type {} is called {to}", id.kind));
                    to.parse().map_err(|error: crate::NameError| place.wrong(error.to_string()))?
                }
                (None, None) => {
                    variable.parse().map_err(|error: crate::NameError| place.wrong(error.to_string()))?
                }
            };
            let values: Values = values.into_iter().map(|(_, value)| value).collect();
            entity.set(name, place, values)?;
        }
        Ok(())
    }

    /// Defines what is not known: types as open ones, so that their variables may be any.
    fn define(&mut self, known: &Definitions) {
        let mut types: BTreeMap<TypeName, DesiredType> = BTreeMap::new();
        for (id, entity) in &self.desired.entities {
            let there = known.get(id.kind.as_str());
            if there.is_some_and(|there| there.open) {
                continue;
            }
            let Some(_) = there else {
                types.entry(id.kind.clone()).or_insert_with(|| DesiredType {
                    place: entity.place.clone(),
                    itself: Some(TypeDefinition {
                        about: "From Labnet.".into(),
                        open: true,
                        ..Default::default()
                    }),
                    variables: BTreeMap::new(),
                });
                continue;
            };
            for (variable, (place, values)) in &entity.variables {
                if known.definition(id.kind.as_str(), variable.as_str()).is_some() {
                    continue;
                }
                let kind = types.entry(id.kind.clone()).or_insert_with(|| DesiredType {
                    place: entity.place.clone(),
                    itself: None,
                    variables: BTreeMap::new(),
                });
                let (_, definition) = kind.variables.entry(variable.clone()).or_insert_with(|| {
                    (place.clone(), Definition { about: "From Labnet.".into(), ..Definition::default() })
                });
                if values.len() > 1 {
                    definition.edit = Editing::Inputs;
                }
            }
        }
        let notes = &mut self.desired.notes;
        notes.extend(self.renamed.iter().cloned());
        for (kind, wanted) in &types {
            if wanted.itself.is_some() {
                notes.push(format!(
                    "type {kind} is new: its entities hold any variables; define them to have them checked"
                ));
            } else {
                let names: Vec<_> = wanted.variables.keys().map(VariableName::as_str).collect();
                notes.push(format!(
                    "variables of type {kind} that are new, any text for now: {}",
                    names.join(", ")
                ));
            }
        }
        if self.empty > 0 {
            notes.push(format!("{} variables had only empty values and are left unset", self.empty));
        }
        self.desired.types = Some(types);
    }
}

/// The variable that a value is of.
fn variable_of<'a>(value: Node<'a, '_>) -> Option<&'a str> {
    if let Some(name) = attribute(value, &["var", "variable"]) {
        return Some(name);
    }
    let around = value.parent_element()?;
    // The document's own element is none, unless it says so.
    let is_root = around.parent_element().is_none();
    attribute(around, &NAMING).or_else(|| (!is_root).then(|| around.tag_name().name()))
}

fn attribute<'a>(node: Node<'a, '_>, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| node.attribute(*name))
}

/// All text within, as it is.
fn text_of(node: Node<'_, '_>) -> String {
    node.descendants().filter(Node::is_text).filter_map(|text| text.text()).collect()
}
