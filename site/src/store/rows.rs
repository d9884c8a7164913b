//! Rows of the database as clients and images, and back.

use std::fmt::Display;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rusqlite::{Connection, OptionalExtension, Row, named_params};

use super::error::{MAX_LISTED, StoreError};
use crate::{Client, ClientName, Image, ImageName, checks};

const CLIENT: &str =
    "SELECT name, mac, address, image, menu, boot_program, overlay_limit, enabled FROM client";
const IMAGE: &str = "SELECT name, version, path, size FROM image";

/// One connection with the name of its file, for errors.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) connection: &'a Connection,
    pub(super) path: &'a Path,
}

impl Rows<'_> {
    pub(super) fn sql(self) -> impl Fn(rusqlite::Error) -> StoreError {
        move |source| StoreError::sql(self.path, source)
    }

    pub(super) fn revision(self) -> Result<u64, StoreError> {
        let number: i64 = self
            .connection
            .query_row("SELECT coalesce(max(number), 0) FROM revision", [], |row| row.get(0))
            .map_err(self.sql())?;
        Ok(u64::try_from(number).unwrap_or(0))
    }

    pub(super) fn clients(self) -> Result<Vec<Client>, StoreError> {
        let mut statement = self.connection.prepare_cached(CLIENT).map_err(self.sql())?;
        let mut rows = statement.query([]).map_err(self.sql())?;
        let mut clients = Vec::new();
        while let Some(row) = rows.next().map_err(self.sql())? {
            clients.push(self.client_of(row)?);
        }
        Ok(clients)
    }

    pub(super) fn images(self) -> Result<Vec<Image>, StoreError> {
        let mut statement = self.connection.prepare_cached(IMAGE).map_err(self.sql())?;
        let mut rows = statement.query([]).map_err(self.sql())?;
        let mut images = Vec::new();
        while let Some(row) = rows.next().map_err(self.sql())? {
            images.push(self.image_of(row)?);
        }
        Ok(images)
    }

    pub(super) fn client(self, name: &ClientName) -> Result<Option<Client>, StoreError> {
        let mut statement =
            self.connection.prepare_cached(&format!("{CLIENT} WHERE name = ?1")).map_err(self.sql())?;
        let mut rows = statement.query([name.as_str()]).map_err(self.sql())?;
        rows.next().map_err(self.sql())?.map(|row| self.client_of(row)).transpose()
    }

    pub(super) fn image(self, name: &ImageName) -> Result<Option<Image>, StoreError> {
        let mut statement =
            self.connection.prepare_cached(&format!("{IMAGE} WHERE name = ?1")).map_err(self.sql())?;
        let mut rows = statement.query([name.as_str()]).map_err(self.sql())?;
        rows.next().map_err(self.sql())?.map(|row| self.image_of(row)).transpose()
    }

    /// The client other than `but` whose `column` is `value`.
    pub(super) fn holder(
        self,
        column: &'static str,
        value: &str,
        but: &ClientName,
    ) -> Result<Option<ClientName>, StoreError> {
        let query = format!("SELECT name FROM client WHERE {column} = ?1 AND name <> ?2");
        let name: Option<String> = self
            .connection
            .query_row(&query, [value, but.as_str()], |row| row.get(0))
            .optional()
            .map_err(self.sql())?;
        name.map(|name| self.parsed("client", &name, &name)).transpose()
    }

    pub(super) fn clients_of_image(self, image: &ImageName) -> Result<Vec<ClientName>, StoreError> {
        self.names("SELECT name FROM client WHERE image = ?1 ORDER BY name", &[image.as_str()], "client")
    }

    /// The first few clients' names.
    pub(super) fn some_clients(self) -> Result<Vec<ClientName>, StoreError> {
        self.names(&format!("SELECT name FROM client ORDER BY name LIMIT {MAX_LISTED}"), &[], "client")
    }

    /// The first few images' names.
    pub(super) fn some_images(self) -> Result<Vec<ImageName>, StoreError> {
        self.names(&format!("SELECT name FROM image ORDER BY name LIMIT {MAX_LISTED}"), &[], "image")
    }

    pub(super) fn put_client(self, client: &Client) -> Result<(), StoreError> {
        let limit = client.overlay_limit.and_then(|limit| i64::try_from(limit).ok());
        self.connection
            .prepare_cached(
                "INSERT INTO client VALUES
                 (:name, :mac, :address, :image, :menu, :boot_program, :overlay_limit, :enabled)
                 ON CONFLICT (name) DO UPDATE SET mac = :mac, address = :address, image = :image, menu = :menu,
                 boot_program = :boot_program, overlay_limit = :overlay_limit, enabled = :enabled",
            )
            .and_then(|mut statement| {
                statement.execute(named_params! {
                    ":name": client.name.as_str(),
                    ":mac": client.mac.to_string(),
                    ":address": client.address.map(|address| address.to_string()),
                    ":image": client.image.as_ref().map(ImageName::as_str),
                    ":menu": client.menu,
                    ":boot_program": client.boot_program,
                    ":overlay_limit": limit,
                    ":enabled": client.enabled,
                })
            })
            .map_err(self.sql())?;
        Ok(())
    }

    pub(super) fn put_image(self, image: &Image) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "INSERT INTO image VALUES (:name, :version, :path, :size)
                 ON CONFLICT (name) DO UPDATE SET version = :version, path = :path, size = :size",
            )
            .and_then(|mut statement| {
                statement.execute(named_params! {
                    ":name": image.name.as_str(),
                    ":version": image.version.as_str(),
                    ":path": image.path.to_string_lossy(),
                    ":size": i64::try_from(image.size).unwrap_or(i64::MAX),
                })
            })
            .map_err(self.sql())?;
        Ok(())
    }

    fn names<T>(self, query: &str, parameters: &[&str], what: &str) -> Result<Vec<T>, StoreError>
    where
        T: FromStr<Err: Display>,
    {
        let mut statement = self.connection.prepare_cached(query).map_err(self.sql())?;
        let mut rows = statement.query(rusqlite::params_from_iter(parameters)).map_err(self.sql())?;
        let mut names = Vec::new();
        while let Some(row) = rows.next().map_err(self.sql())? {
            let name: String = row.get(0).map_err(self.sql())?;
            names.push(self.parsed(what, &name, &name)?);
        }
        Ok(names)
    }

    fn client_of(self, row: &Row<'_>) -> Result<Client, StoreError> {
        let name: String = row.get(0).map_err(self.sql())?;
        let text = |column| row.get::<_, Option<String>>(column).map_err(self.sql());
        let limit: Option<i64> = row.get(6).map_err(self.sql())?;
        let client = Client {
            name: self.parsed("client", &name, &name)?,
            mac: self.parsed("client", &name, &text(1)?.unwrap_or_default())?,
            address: text(2)?.map(|text| self.parsed::<Ipv4Addr>("client", &name, &text)).transpose()?,
            image: text(3)?.map(|text| self.parsed("client", &name, &text)).transpose()?,
            menu: text(4)?,
            boot_program: text(5)?,
            overlay_limit: limit.map(|limit| u64::try_from(limit).unwrap_or(0)),
            enabled: row.get(7).map_err(self.sql())?,
        };
        checks::client(&client).map_err(|error| self.bad_row("client", &name, &error))?;
        Ok(client)
    }

    fn image_of(self, row: &Row<'_>) -> Result<Image, StoreError> {
        let name: String = row.get(0).map_err(self.sql())?;
        let version: String = row.get(1).map_err(self.sql())?;
        let path: String = row.get(2).map_err(self.sql())?;
        let size: i64 = row.get(3).map_err(self.sql())?;
        let image = Image {
            name: self.parsed("image", &name, &name)?,
            version: self.parsed("image", &name, &version)?,
            path: PathBuf::from(path),
            size: u64::try_from(size).unwrap_or(0),
        };
        checks::image(&image).map_err(|error| self.bad_row("image", &name, &error))?;
        Ok(image)
    }

    fn parsed<T: FromStr<Err: Display>>(self, what: &str, name: &str, text: &str) -> Result<T, StoreError> {
        text.parse().map_err(|error: T::Err| self.bad_row(what, name, &error))
    }

    fn bad_row(self, what: &str, name: &str, reason: &dyn Display) -> StoreError {
        let name: String = name.escape_default().take(80).collect();
        StoreError::BadRow {
            path: self.path.to_owned(),
            row: format!("{what} \"{name}\""),
            reason: reason.to_string(),
        }
    }
}
