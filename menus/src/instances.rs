//! Which instance of a file a machine gets: the same file may exist for one host, a group, a department, a site, or for
//! all, and the most specific one counts. The order is that of the Labnet Administrators Guide, section 2.4.
//!
//! The guide's text has lost the names of its rows "all clients served by this appserver" and of the defaults; they are
//! called `NAME@appserver_client`, `all_server`, `all_client` and `all` here, after the pattern of the others.

use crate::menus::CLIENT_TYPE;
use crate::view::ConfigView;

/// The instance for all machines.
pub(crate) const ALL: &str = "all";

/// The table of a client that names the group whose instance of a file it gets, and its two columns.
const GROUPS_TABLE: &str = "config_files";
const FILE_COLUMN: &str = "file_id";
const GROUP_COLUMN: &str = "file_group";

/// Whom a file is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it is.
    pub role: Role<'a>,
    /// The groups whose instances of this file it gets, the first before the later ones.
    pub groups: Vec<&'a str>,
    /// Its department.
    pub dept: Option<&'a str>,
    /// Its site.
    pub site: Option<&'a str>,
}

/// What a machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role<'a> {
    /// An appserver.
    Server,
    /// A client.
    Client {
        /// The appserver that it boots from.
        appserver: Option<&'a str>,
    },
}

impl<'a> Machine<'a> {
    /// The client of that name, which `server` serves, as it looks for `file`. The groups of which it gets this file's
    /// instances are those that its table `config_files` names for the file, then those that it inherits from.
    #[must_use]
    pub fn client(name: &'a str, file: &str, server: &'a str, view: &'a dyn ConfigView) -> Self {
        let value = |variable| view.values(CLIENT_TYPE, name, variable).first().copied();
        let rows = view.rows(CLIENT_TYPE, name, GROUPS_TABLE);
        let named = rows.into_iter().filter_map(|row| {
            let column = |wanted| row.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
            column(GROUP_COLUMN).filter(|_| column(FILE_COLUMN) == Some(file))
        });
        Self {
            name,
            role: Role::Client { appserver: value("server").or(Some(server)) },
            groups: named.chain(view.values(CLIENT_TYPE, name, "groups")).collect(),
            dept: value("dept"),
            site: value("site"),
        }
    }

    /// The names of the instances that would do, the most specific first.
    #[must_use]
    pub fn instances(&self) -> Vec<String> {
        let mut names: Vec<String> = self.groups.iter().map(|group| (*group).to_owned()).collect();
        let suffix = match self.role {
            Role::Server => {
                names.extend([format!("{}@host_server", self.name), format!("{}@host", self.name)]);
                "server"
            }
            Role::Client { appserver } => {
                names.push(format!("{}@host_client", self.name));
                names.extend(appserver.map(|server| format!("{server}@appserver_client")));
                // A server's own instance is there for all that boot from it.
                names.extend(appserver.map(|server| format!("{server}@host")));
                "client"
            }
        };
        for (name, domain) in [(self.dept, "dept"), (self.site, "site")] {
            if let Some(name) = name {
                names.extend([format!("{name}@{domain}_{suffix}"), format!("{name}@{domain}")]);
            }
        }
        names.extend([format!("all_{suffix}"), ALL.to_owned()]);
        names
    }

    /// Of the instances that there are, the one that this machine gets.
    #[must_use]
    pub fn choose<'i>(&self, instances: &[&'i str]) -> Option<&'i str> {
        self.instances()
            .iter()
            .find_map(|wanted| instances.iter().find(|instance| *instance == wanted).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOGWARTS: Machine<'_> = Machine {
        name: "hogwarts",
        role: Role::Client { appserver: Some("odie") },
        groups: Vec::new(),
        dept: Some("cs"),
        site: Some("mun"),
    };

    #[test]
    fn the_most_specific_instance_comes_first() {
        let hogwarts = Machine { groups: vec!["mscluster", "lab"], ..HOGWARTS };
        assert_eq!(
            hogwarts.instances(),
            [
                "mscluster",
                "lab",
                "hogwarts@host_client",
                "odie@appserver_client",
                "odie@host",
                "cs@dept_client",
                "cs@dept",
                "mun@site_client",
                "mun@site",
                "all_client",
                "all",
            ]
        );
        let odie = Machine { name: "odie", role: Role::Server, dept: None, ..HOGWARTS };
        assert_eq!(
            odie.instances(),
            ["odie@host_server", "odie@host", "mun@site_server", "mun@site", "all_server", "all"]
        );
    }

    /// The guide's example: access.conf exists for group mscluster, and for the site's servers and clients.
    #[test]
    fn access_conf_of_section_2_4() {
        let instances = ["mun@site_server", "mscluster", "mun@site_client"];
        assert_eq!(HOGWARTS.choose(&instances), Some("mun@site_client"));
        assert_eq!(Machine { groups: vec!["mscluster"], ..HOGWARTS }.choose(&instances), Some("mscluster"));
        assert_eq!(Machine { role: Role::Server, ..HOGWARTS }.choose(&instances), Some("mun@site_server"));
        assert_eq!(Machine { site: None, ..HOGWARTS }.choose(&instances), None);
    }
}
