//! The model at its boundary: edits and refusals, inheritance, and a plain map under random edits.

mod edits;
mod inherited;
mod random;
mod viewed;

use super::*;

fn id(text: &str) -> EntityId {
    text.parse().unwrap()
}

fn create(entity: &str) -> Edit {
    Edit::Create { entity: id(entity) }
}

fn remove(entity: &str) -> Edit {
    Edit::Remove { entity: id(entity) }
}

/// Sets a variable to the words of `values`.
fn set(entity: &str, variable: &str, values: &str) -> Edit {
    Edit::Set {
        entity: id(entity),
        variable: variable.parse().unwrap(),
        values: values.split_whitespace().collect(),
        expect: None,
    }
}

fn define(kind: &str, variable: &str, definition: &str) -> Edit {
    Edit::Define {
        kind: kind.parse().unwrap(),
        variable: variable.parse().unwrap(),
        definition: Some(Box::new(toml::from_str(definition).unwrap())),
    }
}

fn made(model: &Model, edits: &[Edit]) -> Model {
    model.apply(edits).unwrap_or_else(|error| panic!("{error}")).0
}

fn refusal(model: &Model, edits: &[Edit]) -> String {
    model.apply(edits).unwrap_err().to_string()
}

/// Two clients of one group, an image, a server.
fn lab() -> Model {
    let model = made(
        &Model::default(),
        &[
            define("client", "kernel", "about = 'The kernel.'\nmandatory = true"),
            define("client", "cname", "edit = 'inputs'"),
            define("client", "acc_user", "edit = 'column'\ntable = 'access'\nplace = 2"),
            define(
                "client",
                "acc_perm",
                "edit = 'column'\ntable = 'access'\nplace = 1\nchoice = ['allow', 'deny']",
            ),
            define("client", "token", "secret = true\npattern = '[a-z]{4}'\nexample = 'abcd'"),
        ],
    );
    made(
        &model,
        &[
            create("image/lab"),
            set("image/lab", "version", "v1"),
            set("image/lab", "path", "/images/lab/v1.img"),
            set("image/lab", "size", "1G"),
            create("group/en1018"),
            create("server/megatron"),
            create("client/rook"),
            set("client/rook", "mac", "52:54:00:77:00:01"),
            set("client/rook", "groups", "en1018"),
            create("client/pawn"),
            set("client/pawn", "mac", "52:54:00:77:00:02"),
            set("client/pawn", "groups", "en1018"),
        ],
    )
}

fn value<'a>(model: &'a Model, entity: &str, variable: &str) -> Option<&'a str> {
    let id = id(entity);
    model.get(id.kind.as_str(), id.name.as_str())?.get(variable)?.first()
}
