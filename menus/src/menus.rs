//! The set of templates that is in force, in either language, and rendering one of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::context::Context;
use crate::engine::Engine;
use crate::error::MenuError;
use crate::escape::Language;
use crate::labnet;
use crate::view::{ConfigView, EmptyView};

/// The longest text that a template may become, in bytes; iPXE and pxelinux hold a script in RAM whole.
pub const MAX_OUTPUT: usize = 64 << 10;

/// The longest template, in bytes. A longer one is an error when it is loaded.
pub const MAX_TEMPLATE: usize = 256 << 10;

/// The most numbers that `range` yields. Asking for more is an error.
pub const MAX_RANGE: usize = 1000;

/// The most values and numbers that a Tera template's functions yield for one text. More is an error.
pub const MAX_LOOKED_UP: usize = 100_000;

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
    tera: Engine,
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
        let labnet = labnet
            .into_iter()
            .map(|(name, text)| {
                let template = labnet::Template::parse(&name, &text)?;
                let language = template.language();
                Ok((name, (template, language)))
            })
            .collect::<Result<_, MenuError>>()?;
        Ok(Self { tera: Engine::new(&tera)?, labnet })
    }

    /// The templates' names, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.tera.names().chain(self.labnet.keys().map(String::as_str)).collect();
        names.sort_unstable();
        names
    }

    /// The text of template `name`, with or without its `.tera`, for the client in `context`, on a site without
    /// entities.
    ///
    /// # Errors
    /// As [`render_with`](Self::render_with).
    pub fn render(&self, name: &str, context: &Context) -> Result<String, MenuError> {
        let nothing: Arc<dyn ConfigView> = Arc::new(EmptyView);
        self.render_with(name, context, &nothing)
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
        view: &Arc<dyn ConfigView>,
    ) -> Result<String, MenuError> {
        let template = self.resolve(name)?;
        let client = context.client.label();
        let host = labnet::Host { kind: CLIENT_TYPE, name: &client };
        match self.labnet.get(template) {
            Some((template, language)) => template.expand(host, view.as_ref(), *language),
            None => self.tera.render(template, context, host, view),
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
}
