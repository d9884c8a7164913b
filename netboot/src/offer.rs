//! What a client may choose among, and where its script leads: the part of the policy behind menus.

use std::collections::HashSet;
use std::sync::Arc;

use site::entity::{EntityName, SITE_DEFAULTS, SITE_TYPE};
use site::{Choice, ChoiceKind, Client, Image, Site};

use crate::pxe::Firmware;
use crate::reason::Reason;

/// The most choices that one client is offered, sub-menus counted. Further ones are left out, and `why` says so.
pub const MAX_OFFERED: usize = 256;

/// What a client may choose among. Whatever is in here it may boot; what is not it may not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Offer {
    /// What its menu is called; `None`: nothing in particular.
    pub title: Option<String>,
    /// Its menu's choices, in their order, hidden ones counted.
    pub choices: Vec<Arc<Choice>>,
    /// What it gets when nobody chooses.
    pub default: Option<Arc<Choice>>,
    /// For how many seconds its menu waits; `None`: until somebody chooses.
    pub timeout: Option<u64>,
    /// Whether its menu shows only if a key is pressed.
    pub hidden: bool,
    /// What it gets the next time only, whether it is offered or not.
    pub once: Option<Arc<Choice>>,
    /// The sub-menus' choices, in their order.
    below: Vec<(EntityName, Vec<Arc<Choice>>)>,
}

/// Where a client's script leads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Start {
    /// Nowhere: it may not boot.
    #[default]
    Nothing,
    /// Straight into a disk made from its image.
    Image,
    /// Into its menu.
    Menu,
    /// Into the form by which a machine that the site doesn't know is registered.
    Register,
    /// Straight into a choice.
    Choice(Arc<Choice>),
    /// Into a choice this once. Whoever makes its script takes it out of the site.
    Once(Arc<Choice>),
}

impl Offer {
    /// The choice of that name, if it is offered.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Choice>> {
        let below = self.below.iter().flat_map(|(_, choices)| choices);
        self.choices.iter().chain(&self.default).chain(below).find(|choice| choice.name.as_str() == name)
    }

    /// What can be chosen in the sub-menu of that name, if it is offered.
    #[must_use]
    pub fn below(&self, menu: &str) -> Option<&[Arc<Choice>]> {
        self.below.iter().find(|(name, _)| name.as_str() == menu).map(|(_, choices)| choices.as_slice())
    }

    /// What its menu shows, in order: what it gets when nobody chooses is there in any case.
    #[must_use]
    pub fn shown(&self) -> Vec<&Arc<Choice>> {
        let is_new = |choice: &&Arc<Choice>| !self.choices.contains(choice);
        self.default.iter().filter(is_new).chain(&self.choices).filter(|choice| !choice.hidden).collect()
    }

    /// What its menu goes on with when nobody chooses.
    #[must_use]
    pub fn shown_default(&self) -> Option<&Arc<Choice>> {
        let shown = self.shown();
        let default = shown.iter().find(|choice| self.default.as_ref() == Some(choice));
        default.or_else(|| shown.iter().find(|choice| is_end(choice))).copied()
    }
}

/// The image that becomes the client's disk when it boots that choice.
#[must_use]
pub fn image_of(choice: &Choice, client: &Client, site: &Site) -> Option<Arc<Image>> {
    site.image(choice.image.as_ref().or(client.image.as_ref())?).map(Arc::clone)
}

/// What the client is offered, as far as its firmware can take it. A client without choices costs one look-up.
pub(crate) fn offer(
    client: &Client,
    firmware: Option<Firmware>,
    site: &Site,
    why: &mut Vec<Reason>,
) -> Offer {
    let menu = site.menu(&client.name);
    let mut found = Finder { client, firmware, site, left: MAX_OFFERED, why };
    let once = menu.once.as_ref().and_then(|name| found.choice(name));
    let mut seen = HashSet::new();
    let choices = found.choices(&menu.choices);
    let mut below = Vec::new();
    let mut open: Vec<Arc<Choice>> = choices.clone();
    while let Some(choice) = open.pop() {
        if choice.kind == ChoiceKind::Menu && seen.insert(choice.name.clone()) {
            let its = found.choices(&choice.choices);
            open.extend(its.iter().cloned());
            below.push((choice.name.clone(), its));
        }
    }
    let default = menu.default.as_ref().and_then(|name| {
        let offered = choices.iter().find(|choice| choice.name == *name);
        offered.cloned().or_else(|| found.choice(name))
    });
    // A menu's own default is what leads on; a sub-menu would only ask again.
    let default = default.filter(|choice| choice.kind != ChoiceKind::Menu);
    let once = once.filter(|choice| choice.kind != ChoiceKind::Menu);
    Offer { title: menu.title, choices, default, timeout: menu.timeout, hidden: menu.hidden, once, below }
}

/// What a machine is offered that the site doesn't know: what guests boot. That makes no disk, for a disk is a client's.
pub(crate) fn guest_offer(firmware: Option<Firmware>, site: &Site, why: &mut Vec<Reason>) -> Offer {
    let defaults = site.model().get(SITE_TYPE, SITE_DEFAULTS);
    let name = defaults.and_then(|defaults| defaults.get("guest_choice")?.first()?.parse().ok());
    let choice = name.and_then(|name: EntityName| {
        let choice = site.choice(&name);
        let choice = choice.filter(|choice| is_end(choice) && !choice.makes_disk());
        if choice.is_none() {
            why.push(Reason::ChoiceMissing(name));
        }
        choice.filter(|choice| firmware.is_none_or(|firmware| is_for(choice, firmware)))
    });
    Offer { default: choice.map(Arc::clone), ..Offer::default() }
}

/// Where the client's script leads.
pub(crate) fn start(client: &Client, offer: &Offer, image: Option<&Image>, why: &mut Vec<Reason>) -> Start {
    if let Some(once) = &offer.once {
        why.push(Reason::Once(once.name.clone()));
        return Start::Once(Arc::clone(once));
    }
    if !offer.choices.is_empty() {
        why.push(Reason::Offered(offer.choices.iter().map(|choice| choice.name.clone()).collect()));
    }
    if let Some(seconds) = offer.timeout.filter(|seconds| *seconds > 0)
        && offer.choices.iter().any(|choice| !choice.hidden)
    {
        let default = offer.shown_default();
        why.push(Reason::Menu(seconds, default.map(|choice| choice.name.clone())));
        return Start::Menu;
    }
    if let Some(default) = &offer.default {
        why.push(Reason::Straight(default.name.clone()));
        return Start::Choice(Arc::clone(default));
    }
    if let Some(image) = image {
        why.push(Reason::Image(image.name.clone(), image.version.clone()));
        return Start::Image;
    }
    let first = offer.choices.iter().find(|choice| is_end(choice));
    if let Some(first) = first.filter(|_| offer.timeout.is_some()) {
        why.push(Reason::Straight(first.name.clone()));
        return Start::Choice(Arc::clone(first));
    }
    if offer.choices.iter().any(|choice| !choice.hidden) {
        why.push(Reason::MenuWaits);
        return Start::Menu;
    }
    why.push(match &client.image {
        Some(image) => Reason::ImageMissing(client.name.clone(), image.clone()),
        None => Reason::NoImage(client.name.clone()),
    });
    Start::Nothing
}

/// Whether choosing it leads to something that boots.
fn is_end(choice: &Choice) -> bool {
    choice.kind != ChoiceKind::Menu
}

struct Finder<'a> {
    client: &'a Client,
    firmware: Option<Firmware>,
    site: &'a Site,
    left: usize,
    why: &'a mut Vec<Reason>,
}

impl Finder<'_> {
    fn choices(&mut self, names: &[EntityName]) -> Vec<Arc<Choice>> {
        names.iter().filter_map(|name| self.choice(name)).collect()
    }

    fn choice(&mut self, name: &EntityName) -> Option<Arc<Choice>> {
        let Some(left) = self.left.checked_sub(1) else {
            let reason = Reason::TooManyChoices;
            if !self.why.contains(&reason) {
                self.why.push(reason);
            }
            return None;
        };
        self.left = left;
        let Some(choice) = self.site.choice(name) else {
            self.why.push(Reason::ChoiceMissing(name.clone()));
            return None;
        };
        if let Some(firmware) = self.firmware.filter(|firmware| !is_for(choice, *firmware)) {
            self.why.push(Reason::ChoiceUnsuited(name.clone(), firmware));
            return None;
        }
        if choice.makes_disk() && image_of(choice, self.client, self.site).is_none() {
            self.why.push(Reason::ChoiceWithoutImage(name.clone()));
            return None;
        }
        Some(Arc::clone(choice))
    }
}

fn is_for(choice: &Choice, firmware: Firmware) -> bool {
    match firmware {
        Firmware::Bios => choice.bios,
        Firmware::UefiIa32
        | Firmware::UefiX64
        | Firmware::UefiArm32
        | Firmware::UefiArm64
        | Firmware::RaspberryPi => choice.uefi,
        Firmware::Unknown(_) => true,
    }
}
