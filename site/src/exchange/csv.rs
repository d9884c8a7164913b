//! Clients as a table of a spreadsheet: a line for each, the header names their variables.

use std::collections::HashSet;
use std::sync::Arc;

use ::csv::{ByteRecord, ReaderBuilder, Trim};

use super::desired::Desired;
use super::error::{ExchangeError, Place};
use super::tree::MAX_FILE;
use crate::entity::{CLIENT_TYPE, EntityId, EntityName, TypeName, Values, VariableName};

/// The most columns of a table. More are refused: it is something else.
const MAX_COLUMNS: usize = 1000;

/// How a table is written.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CsvOptions {
    /// What its lines are.
    #[serde(rename = "type")]
    pub kind: TypeName,
    /// Between the columns.
    pub delimiter: char,
    /// Between the values of a list within a cell.
    pub separator: char,
}

impl CsvOptions {
    /// As most spreadsheets write it, for clients.
    ///
    /// # Errors
    /// Never: the type's name is valid.
    pub fn clients() -> Result<Self, crate::NameError> {
        Ok(Self { kind: CLIENT_TYPE.parse()?, delimiter: ',', separator: ';' })
    }
}

/// Reads a table; `file` is its name in errors. The header has `name` and variables; an empty cell leaves the variable
/// as it is, and a line without any cells is left out.
///
/// # Errors
/// When it is no such table, with line and column (of the table, not of the text).
pub fn csv(text: &[u8], options: &CsvOptions, file: &str) -> Result<Desired, ExchangeError> {
    let file: Arc<str> = file.into();
    let whole = Place::whole(&file);
    if text.len() > MAX_FILE {
        return Err(
            whole.wrong(format!("it has {} bytes, {MAX_FILE} are allowed; import it in parts", text.len()))
        );
    }
    let Ok(delimiter) = u8::try_from(options.delimiter) else {
        return Err(
            whole.wrong(format!("'{}' can't be between columns; use , or ; or a tab", options.delimiter))
        );
    };
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    let mut rows = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter)
        .trim(Trim::All)
        .from_reader(text);
    let mut desired = Desired::default();
    let mut header: Option<Header> = None;
    let mut row = ByteRecord::new();
    let mut lines = Lines { text, at: 0, line: 1 };
    while rows.read_byte_record(&mut row).map_err(|error| whole.wrong(error.to_string()))? {
        let line = lines.of(&row);
        let place = |column: usize| Place { file: Arc::clone(&file), line, column };
        let cells: Vec<_> = row
            .iter()
            .enumerate()
            .map(|(at, cell)| {
                std::str::from_utf8(cell)
                    .map_err(|_| place(at + 1).wrong("it is not UTF-8; save the table as \"CSV UTF-8\""))
            })
            .collect::<Result<_, _>>()?;
        if cells.iter().all(|cell| cell.is_empty()) {
            continue;
        }
        match &header {
            None => header = Some(Header::of(&cells, options, place)?),
            Some(header) => header.row(&cells, options, place, &mut desired)?,
        }
    }
    if header.is_none() {
        return Err(
            whole.wrong("it is empty; its first line names the columns, for example: name,mac,image,groups")
        );
    }
    Ok(desired)
}

/// Counts lines as the rows come. The reader's own count takes empty lines for the beginning of the next row.
struct Lines<'t> {
    text: &'t [u8],
    at: usize,
    line: usize,
}

impl Lines<'_> {
    fn of(&mut self, row: &ByteRecord) -> usize {
        let begin =
            row.position().and_then(|position| usize::try_from(position.byte()).ok()).unwrap_or(self.at);
        let rest = self.text.get(begin..).unwrap_or_default();
        let begin = begin + rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let passed = self.text.get(self.at..begin).unwrap_or_default();
        self.line += passed.iter().filter(|byte| **byte == b'\n').count();
        self.at = begin;
        self.line
    }
}

struct Header {
    /// The variables, or `None` for the column of the names.
    columns: Vec<Option<VariableName>>,
    name: usize,
}

impl Header {
    fn of(
        cells: &[&str],
        options: &CsvOptions,
        place: impl Fn(usize) -> Place,
    ) -> Result<Self, ExchangeError> {
        if cells.len() > MAX_COLUMNS {
            return Err(place(0).wrong(format!("it has {} columns, {MAX_COLUMNS} are allowed", cells.len())));
        }
        let Some(name) = cells.iter().position(|cell| *cell == "name") else {
            let divides =
                |other: &char| *other != options.delimiter && cells.iter().any(|cell| cell.contains(*other));
            let hint = [',', ';', '\t'].into_iter().find(divides).map(|other| {
                format!("; perhaps the columns are divided by {other:?}, not by {:?}", options.delimiter)
            });
            return Err(place(1).wrong(format!(
                "no column is called \"name\"; the first line names the columns, for example: name,mac,image,groups{}",
                hint.unwrap_or_default()
            )));
        };
        let mut seen = HashSet::new();
        let mut columns = Vec::new();
        for (at, cell) in cells.iter().enumerate() {
            let place = place(at + 1);
            if !seen.insert(*cell) {
                return Err(place.wrong(format!("the column \"{}\" is there twice", cell.escape_debug())));
            }
            let variable = (at != name).then(|| cell.parse()).transpose();
            columns.push(variable.map_err(|error: crate::NameError| place.wrong(error.to_string()))?);
        }
        Ok(Self { columns, name })
    }

    fn row(
        &self,
        cells: &[&str],
        options: &CsvOptions,
        place: impl Fn(usize) -> Place,
        desired: &mut Desired,
    ) -> Result<(), ExchangeError> {
        if cells.len() > self.columns.len() {
            let reason =
                format!("this line has {} cells, the header has {}", cells.len(), self.columns.len());
            return Err(place(self.columns.len() + 1).wrong(reason));
        }
        let name = cells.get(self.name).copied().unwrap_or_default();
        let name: EntityName =
            name.parse().map_err(|error: crate::NameError| place(self.name + 1).wrong(error.to_string()))?;
        let entity = desired.entity(EntityId::new(options.kind.clone(), name), place(0))?;
        for (at, (variable, cell)) in self.columns.iter().zip(cells).enumerate() {
            let Some(variable) = variable.as_ref().filter(|_| !cell.is_empty()) else { continue };
            let values: Values =
                cell.split(options.separator).map(str::trim).filter(|value| !value.is_empty()).collect();
            entity.set(variable.clone(), place(at + 1), values)?;
        }
        Ok(())
    }
}
