//! What the commands of `bootd site` and the daemon say to each other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use site::entity::{
    Definition, Edit, EntityId, Expression, Origin, TypeDefinition, TypeName, Values, VariableName,
};
use site::exchange::{CsvOptions, LabnetFile, LabnetOptions, TextFormat};

/// `POST /site/preview`: what is to change, as a person says it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub(crate) enum Ask {
    /// Makes an entity.
    Create { entity: EntityId, variables: Vec<Change> },
    /// Changes variables of some entities.
    Set { which: Which, variables: Vec<Change> },
    /// Removes entities.
    Remove { which: Which },
    /// Defines a type.
    DefineType {
        #[serde(rename = "type")]
        kind: TypeName,
        definition: Box<TypeDefinition>,
    },
    /// Defines a variable.
    Define {
        #[serde(rename = "type")]
        kind: TypeName,
        variable: VariableName,
        definition: Box<Definition>,
    },
    /// Drops a type's definition, or a variable's.
    Undefine {
        #[serde(rename = "type")]
        kind: TypeName,
        variable: Option<VariableName>,
    },
    /// Makes the site what a declarative text says.
    Apply { file: String, text: String, format: TextFormat, prune: bool },
    /// Takes in a table.
    Csv { file: String, text: String, options: CsvOptions },
    /// Takes in Labnet's tree.
    Labnet { files: Vec<LabnetFile>, options: LabnetOptions },
    /// Undoes a revision.
    Revert { revision: u64 },
}

/// Which entities.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Which {
    /// That one.
    One(EntityId),
    /// All that the expression finds; none is an error.
    Where(Expression),
}

/// What to do to one variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Change {
    pub(crate) variable: VariableName,
    pub(crate) how: How,
    pub(crate) values: Values,
}

/// How the values are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum How {
    /// In place of those that are there; none unset it.
    Set,
    /// Behind those that are there, without those that are.
    Add,
    /// Out of those that are there.
    Take,
}

/// What would change: nothing has yet.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Preview {
    /// The revision of the site that it was made for.
    pub(crate) revision: u64,
    /// The edits; each expects what the site has now.
    pub(crate) edits: Vec<Edit>,
    /// What they do, line by line, secrets masked.
    pub(crate) diff: Vec<String>,
    /// How many entities they change.
    pub(crate) entities: usize,
    /// Whether they remove entities or definitions.
    pub(crate) removes: bool,
    /// What one should know besides.
    pub(crate) notes: Vec<String>,
}

/// `POST /site/edit`: makes the edits of a [`Preview`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EditRequest {
    pub(crate) edits: Vec<Edit>,
    /// The preview's revision. Edits that can't say by themselves what they expect are refused at any later one.
    pub(crate) revision: u64,
}

/// What was done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// False when all was so already.
    pub(crate) changed: bool,
    /// False when it was only shown.
    pub(crate) made: bool,
    /// The site's revision now.
    pub(crate) revision: u64,
    /// What changed, line by line, secrets masked.
    pub(crate) diff: Vec<String>,
    /// What one should know besides.
    pub(crate) notes: Vec<String>,
}

/// `POST /site/search`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Search {
    /// Which; all.
    #[serde(rename = "where")]
    pub(crate) filter: Option<Expression>,
    /// Whether secrets are shown.
    pub(crate) secrets: bool,
}

/// One entity, with what it inherits.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EntityView {
    #[serde(rename = "type")]
    pub(crate) kind: TypeName,
    pub(crate) name: String,
    /// Why it is not served; `None`: it is.
    pub(crate) inactive: Option<String>,
    /// By name.
    pub(crate) variables: BTreeMap<VariableName, ValueView>,
}

/// A variable's values as they count.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ValueView {
    pub(crate) values: Values,
    pub(crate) from: Origin,
    /// The table that it is a column of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) table: Option<String>,
}

/// `GET /site/log`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LogQuery {
    pub(crate) entity: Option<String>,
    pub(crate) before: Option<u64>,
    pub(crate) limit: Option<usize>,
}

/// A revision of the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LogEntry {
    pub(crate) revision: u64,
    /// When, in milliseconds since 1970.
    pub(crate) at: u64,
    pub(crate) who: String,
    pub(crate) why: Option<String>,
    /// What changed, line by line, secrets masked.
    pub(crate) diff: Vec<String>,
}

/// `POST /site/export`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ExportRequest {
    #[serde(rename = "where")]
    pub(crate) filter: Option<Expression>,
    pub(crate) format: TextFormat,
    pub(crate) secrets: bool,
}

/// A site file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Exported {
    pub(crate) revision: u64,
    pub(crate) text: String,
}
