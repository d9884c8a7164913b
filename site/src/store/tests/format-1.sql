-- A site as bootd wrote it in format 1, dumped with sqlite3.
PRAGMA application_id = 1651470196;
PRAGMA user_version = 1;
CREATE TABLE revision (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at     TEXT NOT NULL,
    what   TEXT NOT NULL
) STRICT;
CREATE TABLE image (
    name    TEXT PRIMARY KEY,
    version TEXT NOT NULL,
    path    TEXT NOT NULL,
    size    INTEGER NOT NULL CHECK (size > 0)
) STRICT;
CREATE TABLE client (
    name          TEXT PRIMARY KEY,
    mac           TEXT NOT NULL UNIQUE,
    address       TEXT UNIQUE,
    image         TEXT REFERENCES image(name),
    menu          TEXT,
    boot_program  TEXT,
    overlay_limit INTEGER,
    enabled       INTEGER NOT NULL CHECK (enabled IN (0, 1))
) STRICT;
CREATE INDEX client_image ON client(image);
INSERT INTO revision VALUES (1, '2026-11-01T08:00:00.123456789Z', 'add image lab at v1');
INSERT INTO revision VALUES (2, '2026-11-01T08:00:01Z', 'add client rook');
INSERT INTO revision VALUES (3, '2026-11-01T08:00:02Z', 'add client gone');
INSERT INTO revision VALUES (4, '2026-11-01T08:00:03Z', 'remove client gone');
INSERT INTO revision VALUES (5, '2026-11-02T09:30:00Z', 'add client pawn');
INSERT INTO image VALUES ('lab', 'v1', '/var/lib/bootd/images/lab/v1.img', 1073741824);
INSERT INTO client VALUES
    ('rook', '52:54:00:77:00:01', '10.77.0.1', 'lab', 'rooms/lab.ipxe', 'snponly.efi', 4294967296, 0);
INSERT INTO client VALUES ('pawn', '52:54:00:77:00:02', NULL, NULL, NULL, NULL, NULL, 1);
