//! The set of templates that is in force, in either language, and rendering one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::context::Context;
use crate::engine::Engine;
use crate::error::MenuError;
use crate::escape::Language;
use crate::instances::{ALL, Machine};
use crate::labnet;
use crate::stop::Stop;
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

/// The ending of the folder that holds a template's instances: `lab.ipxe.for/en1018.tera` makes `lab.ipxe` for group
/// `en1018`.
pub const INSTANCES_SUFFIX: &str = ".for";

macro_rules! shipped {
    ($($name:literal,)*) => {
        const SHIPPED: &[(&str, &str)] =
            &[$((concat!($name, ".tera"), include_str!(concat!("../templates/", $name, ".tera"))),)*];
    };
}

shipped! {
    "autoexec.ipxe",
    "autoinstall/meta-data",
    "autoinstall/user-data",
    "autoinstall/vendor-data",
    "choice-installer.ipxe",
    "choice-linux.ipxe",
    "choice-local.ipxe",
    "choice-program.ipxe",
    "choice-wim.ipxe",
    "classic.ipxe",
    "default.ipxe",
    "grub/grub.cfg",
    "kickstart.cfg",
    "menu.ipxe",
    "nodisk.ipxe",
    "parts/arguments",
    "parts/failed.ipxe",
    "parts/keep-san.ipxe",
    "parts/loader",
    "parts/stranger.ipxe",
    "preseed.cfg",
    "pxelinux.cfg/default",
    "register-wait.ipxe",
    "register.ipxe",
    "unattend.xml",
}

/// The type of the entities that boot.
pub(crate) const CLIENT_TYPE: &str = "client";

/// The templates in force: the shipped ones, and before them the site's own. Never changed: an edit makes another.
pub struct Menus {
    tera: Engine,
    labnet: BTreeMap<String, (labnet::Template, Language)>,
    /// By the name of what they make, then by instance: the files.
    found: BTreeMap<String, BTreeMap<String, File>>,
}

/// The file of one template.
#[derive(Debug, Clone)]
struct File {
    name: String,
    shipped: bool,
}

/// The template that a machine gets for a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its file, relative to the folder of templates: `lab.ipxe.for/en1018.tera`.
    pub file: String,
    /// Which instance it is: `mun@site_client`, a group, `all`.
    pub instance: String,
    /// Whether it is one that bootd brings along; else it is the site's own.
    pub shipped: bool,
}

impl std::fmt::Debug for Menus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Menus").field("templates", &self.names()).finish()
    }
}

impl Menus {
    /// Whether a file of that name and content among the templates is one: not every file beside them is.
    #[must_use]
    pub fn is_template(name: &str, text: &str) -> bool {
        name.ends_with(TEMPLATE_SUFFIX) || labnet::Template::recognises(text)
    }

    /// The shipped templates, shadowed and joined by the site's own: pairs of a name, as `lab.ipxe.tera`, and a text.
    /// A name that ends in `.tera` makes a Tera template; any other text is one of Labnet's if its outermost element
    /// is `<Template>`, and is else left out: not every file beside the templates is one.
    ///
    /// # Errors
    /// When one is too long, has wrong syntax, or names an element, filter, function or template that there is not.
    pub fn new(site_templates: Vec<(String, String)>) -> Result<Self, MenuError> {
        let mut texts: BTreeMap<String, String> =
            SHIPPED.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let own: BTreeSet<String> = site_templates.iter().map(|(name, _)| name.clone()).collect();
        texts.extend(site_templates);
        texts.retain(|name, text| Self::is_template(name, text));
        for (template, text) in &texts {
            if text.len() > MAX_TEMPLATE {
                let template = template.clone();
                return Err(MenuError::TooLarge { template, size: text.len(), limit: MAX_TEMPLATE });
            }
        }
        let found = index(&texts, &own);
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
        Ok(Self { tera: Engine::new(&tera)?, labnet, found })
    }

    /// The templates' files, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.tera.names().chain(self.labnet.keys().map(String::as_str)).collect();
        names.sort_unstable();
        names
    }

    /// Whether some machine gets a template for `name`, which may have its `.tera` or not.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.instances(name).is_some()
    }

    /// The same, for templates of the site's own only: what bootd brings along leaves a file of the admin's its name.
    #[must_use]
    pub fn has_own(&self, name: &str) -> bool {
        self.instances(name).is_some_and(|(_, instances)| instances.values().any(|file| !file.shipped))
    }

    /// The template that the client in `context` gets for `name`, which may have its `.tera` or not: of the instances
    /// that there are, the one that is most for it alone ([`Machine::instances`]).
    ///
    /// # Errors
    /// When there is none of that name, or none that is for this client.
    pub fn find(&self, name: &str, context: &Context, view: &dyn ConfigView) -> Result<Found, MenuError> {
        let Some((base, instances)) = self.instances(name) else {
            return Err(MenuError::Unknown {
                name: name.escape_default().take(80).collect(),
                known: self.found.keys().cloned().collect(),
            });
        };
        let client = context.client.label();
        let machine = Machine::client(&client, base, &context.server.name, view);
        let there: Vec<&str> = instances.keys().map(String::as_str).collect();
        let chosen = machine.choose(&there).and_then(|instance| Some((instance, instances.get(instance)?)));
        match chosen {
            Some((instance, File { name, shipped })) => {
                Ok(Found { file: name.clone(), instance: instance.to_owned(), shipped: *shipped })
            }
            None => Err(MenuError::NoInstance {
                name: base.to_owned(),
                there: instances.keys().cloned().collect(),
                client: client.clone(),
            }),
        }
    }

    /// The text of template `name` for the client in `context`, on a site without entities.
    ///
    /// # Errors
    /// As [`render_with`](Self::render_with).
    pub fn render(&self, name: &str, context: &Context) -> Result<String, MenuError> {
        let nothing: Arc<dyn ConfigView> = Arc::new(EmptyView);
        self.render_with(name, context, &nothing)
    }

    /// The text of template `name` for the client in `context`, from the instance that [`find`](Self::find) finds.
    /// What it looks up it finds in `view`.
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
        self.render_found(&self.find(name, context, view.as_ref())?, context, view, &Stop::default())
    }

    /// The text of a template that [`find`](Self::find) found, unless `stop` is told to end it before that.
    ///
    /// # Errors
    /// As [`render_with`](Self::render_with).
    pub fn render_found(
        &self,
        found: &Found,
        context: &Context,
        view: &Arc<dyn ConfigView>,
        stop: &Stop,
    ) -> Result<String, MenuError> {
        let client = context.client.label();
        let host = labnet::Host { kind: CLIENT_TYPE, name: &client };
        match self.labnet.get(&found.file) {
            Some((template, language)) => template.expand(host, view.as_ref(), *language, stop),
            None => self.tera.render(&found.file, context, host, view, stop),
        }
    }

    /// All instances of what `name` stands for, and its name without `.tera`.
    fn instances<'a>(&'a self, name: &'a str) -> Option<(&'a str, &'a BTreeMap<String, File>)> {
        let named = |name| self.found.get_key_value(name);
        let (base, instances) = named(name).or_else(|| name.strip_suffix(TEMPLATE_SUFFIX).and_then(named))?;
        Some((base, instances))
    }
}

/// What each file makes, and for whom. Where two make the same, the one without `.tera` counts, as its name is what
/// was asked for.
fn index(
    texts: &BTreeMap<String, String>,
    own: &BTreeSet<String>,
) -> BTreeMap<String, BTreeMap<String, File>> {
    let mut found: BTreeMap<String, BTreeMap<String, File>> = BTreeMap::new();
    let (tera, other): (Vec<&String>, Vec<&String>) =
        texts.keys().partition(|name| name.ends_with(TEMPLATE_SUFFIX));
    for name in tera.into_iter().chain(other) {
        let (base, instance) = made_by(name);
        let file = File { name: name.clone(), shipped: !own.contains(name) };
        found.entry(base.to_owned()).or_default().insert(instance.to_owned(), file);
    }
    found
}

/// What the template in file `name` makes, and for whom: `lab.ipxe.for/en1018.tera` makes `lab.ipxe` for `en1018`.
pub(crate) fn made_by(name: &str) -> (&str, &str) {
    let name = name.strip_suffix(TEMPLATE_SUFFIX).unwrap_or(name);
    let instance = name.rsplit_once('/').and_then(|(folder, instance)| {
        Some((folder.strip_suffix(INSTANCES_SUFFIX).filter(|base| !base.is_empty())?, instance))
    });
    instance.unwrap_or((name, ALL))
}
