//! Which script a client gets: its template, its disk's image, and what it may say of the client's choices.

use std::sync::Arc;

use menus::{ChoiceFacts, Context, DiskFacts, MenuFacts};
use netboot::{Asker, BootPlan, Firmware, Stage, Start, choices_url, image_of, menu_url};
use site::entity::{BOOT_ONCE, CLIENT_TYPE, Edit, EntityId, EntityName, Values};
use site::{Author, Choice, ChoiceKind, Client, ClientName, Image, MacAddr, NameError, Site, StoreState};
use std::net::Ipv4Addr;
use tokio::sync::Mutex as Turn;
use tokio::task::spawn_blocking;

use crate::config::Config;
use crate::state::{Link, State};
use crate::texts::context;

/// The template of clients that name none.
const DEFAULT_TEMPLATE: &str = "default.ipxe";

/// The template of clients that get no disk.
pub(crate) const NO_DISK_TEMPLATE: &str = "nodisk.ipxe";

/// The template of menus.
const MENU_TEMPLATE: &str = "menu.ipxe";

/// One of the scripts that a client may get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Script {
    /// Why it gets nothing to boot.
    Nothing,
    /// The form by which a machine is registered that the site doesn't know, with what is to be said above it.
    Register(Vec<String>),
    /// That an admin has yet to decide about it.
    Waiting(Vec<String>),
    /// A disk of its own image.
    Disk,
    /// Its menu.
    Menu,
    /// A choice, which may be a sub-menu.
    Choice(Arc<Choice>),
}

impl Script {
    /// The one that a plan begins with.
    pub(crate) fn of(plan: &BootPlan) -> Self {
        match &plan.start {
            Start::Nothing => Self::Nothing,
            Start::Register => Self::Register(Vec::new()),
            Start::Image => Self::Disk,
            Start::Menu => Self::Menu,
            Start::Choice(choice) | Start::Once(choice) => Self::Choice(Arc::clone(choice)),
        }
    }

    /// Its template's name.
    pub(crate) fn template(&self, client: &Client) -> String {
        let own = || client.menu.clone().unwrap_or_else(|| DEFAULT_TEMPLATE.to_owned());
        match self {
            Self::Nothing => NO_DISK_TEMPLATE.to_owned(),
            Self::Register(_) => "register.ipxe".to_owned(),
            Self::Waiting(_) => "register-wait.ipxe".to_owned(),
            Self::Disk => own(),
            Self::Menu => MENU_TEMPLATE.to_owned(),
            Self::Choice(choice) => match (&choice.template, choice.kind) {
                (Some(template), _) => template.clone(),
                (None, ChoiceKind::Disk) => own(),
                (None, ChoiceKind::Menu) => MENU_TEMPLATE.to_owned(),
                (None, kind) => format!("choice-{kind}.ipxe"),
            },
        }
    }

    /// The image of the disk that it makes; `None`: it makes none.
    pub(crate) fn image(&self, client: &Client, site: &Site) -> Option<Arc<Image>> {
        match self {
            Self::Nothing | Self::Register(_) | Self::Waiting(_) | Self::Menu => None,
            Self::Disk => site.image(client.image.as_ref()?).map(Arc::clone),
            Self::Choice(choice) if choice.makes_disk() => image_of(choice, client, site),
            Self::Choice(_) => None,
        }
    }

    /// What it may say.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn facts(
        &self,
        config: &Config,
        link: &Link,
        client: &Client,
        peer: Ipv4Addr,
        firmware: Option<Firmware>,
        plan: &BootPlan,
        image: Option<&Image>,
        disk: Option<DiskFacts>,
    ) -> Context {
        let mut facts = context(config, link, client, peer, firmware, plan, disk);
        if let Some(image) = image {
            facts.client.image = Some(image.name.clone());
        }
        if plan.client.is_none() {
            facts.client.name = None;
        }
        if let Self::Register(said) | Self::Waiting(said) = self {
            facts.why.clone_from(said);
        }
        if let Self::Choice(choice) = self {
            facts.choice = Some(choice_facts(choice, &scripts(link, client, firmware)));
            if choice.kind == ChoiceKind::Menu {
                facts.menu = sub_menu(link, client, firmware, plan, choice);
            }
        }
        facts
    }
}

/// What stands for a machine that the site doesn't know where only clients are spoken of. It has no entity, and its name
/// is none that an admin would choose.
///
/// # Errors
/// Never: such a name is short enough.
pub(crate) fn stranger(mac: MacAddr) -> Result<Client, NameError> {
    let digits = mac.hyphenated().replace('-', "");
    Ok(Client {
        name: format!("guest-{digits}").parse()?,
        mac,
        address: None,
        image: None,
        menu: None,
        boot_program: None,
        overlay_limit: None,
        enabled: true,
    })
}

/// A client's menu as templates see it; `None`: it has none.
pub(crate) fn menu_facts(
    link: &Link,
    client: &Client,
    firmware: Option<Firmware>,
    plan: &BootPlan,
) -> Option<MenuFacts> {
    let shown = plan.offer.shown();
    if shown.is_empty() {
        return None;
    }
    let scripts = scripts(link, client, firmware);
    Some(MenuFacts {
        title: plan
            .offer
            .title
            .clone()
            .unwrap_or_else(|| format!("{} on {}", client.name, link.settings.server_name)),
        items: shown.iter().map(|choice| choice_facts(choice, &scripts)).collect(),
        default: plan.offer.shown_default().map(|choice| choice.name.to_string()),
        timeout: plan.offer.timeout.unwrap_or(0).saturating_mul(1000),
        hidden: plan.offer.hidden,
        url: scripts.menu,
        choices_url: scripts.choices,
        inner: false,
    })
}

fn sub_menu(
    link: &Link,
    client: &Client,
    firmware: Option<Firmware>,
    plan: &BootPlan,
    menu: &Choice,
) -> Option<MenuFacts> {
    let scripts = scripts(link, client, firmware);
    let shown = plan.offer.below(menu.name.as_str())?.iter().filter(|choice| !choice.hidden);
    Some(MenuFacts {
        title: menu.title.clone(),
        items: shown.map(|choice| choice_facts(choice, &scripts)).collect(),
        default: None,
        timeout: 0,
        hidden: false,
        url: scripts.menu,
        choices_url: scripts.choices,
        inner: true,
    })
}

/// Where a client's scripts are.
struct Urls {
    menu: String,
    choices: String,
}

fn scripts(link: &Link, client: &Client, firmware: Option<Firmware>) -> Urls {
    let asker = Asker::supposed(client.mac, Stage::Ipxe, firmware);
    Urls {
        menu: menu_url(&asker, &link.interface, &link.settings),
        choices: choices_url(&asker, &link.interface, &link.settings),
    }
}

fn choice_facts(choice: &Choice, urls: &Urls) -> ChoiceFacts {
    ChoiceFacts {
        name: choice.name.to_string(),
        title: choice.title.clone(),
        kind: choice.kind.to_string(),
        key: choice.key,
        url: format!("{}{}.ipxe", urls.choices, choice.name),
    }
}

/// Held by who takes out of the site what is booted once. Edits take turns in the store anyway; here they do so without a
/// thread each, and a room that waits for a database which does not answer learns of that from the first of its machines.
static USING_UP: Turn<()> = Turn::const_new(());

/// Takes a choice that a client was to boot once out of the site, so that it boots it once, whatever happens from now
/// on: the machine is sent the script only when this has succeeded.
///
/// # Errors
/// When that can't be written down, or somebody has changed it since. The client then still has it to come. A database
/// that is known not to answer is not asked.
pub(crate) async fn use_up(
    state: &Arc<State>,
    client: &ClientName,
    choice: &EntityName,
) -> Result<(), String> {
    let _turn = USING_UP.lock().await;
    if let StoreState::Offline { reason, .. } = state.store.state() {
        return Err(format!("the site's database does not answer: {reason}"));
    }
    let (state, client, choice) = (Arc::clone(state), client.clone(), choice.clone());
    let used = spawn_blocking(move || {
        let wrong = |e: NameError| e.to_string();
        let entity =
            EntityId::new(CLIENT_TYPE.parse().map_err(wrong)?, client.as_str().parse().map_err(wrong)?);
        let edit = Edit::Set {
            entity,
            variable: BOOT_ONCE.parse().map_err(wrong)?,
            values: Values::default(),
            expect: Some(Values::one(choice.as_str())),
        };
        let author = Author::default().because(format!("{client} boots {choice} now"));
        state.store.edit(&[edit], &author).map_err(|e| e.to_string())?;
        state.refresh().map_err(|e| e.to_string())
    });
    used.await.map_err(|e| e.to_string())?
}
