//! What clients ask for: few paths, so that they get into each other's way.

use bytes::Bytes;
use bytestring::ByteString;
use coord_core::acl;
use coord_core::request::{CreateMode, NodeType, Read, Request, Write};
use coord_core::watch::WatchKind;

use crate::dice::Dice;

/// Paths at the root.
const NAMES: [&str; 3] = ["/a", "/b", "/c"];

/// What one client asks for.
#[derive(Debug)]
pub(super) struct Workload {
    client: usize,
    dice: Dice,
    values: u64,
    wide: bool,
}

impl Workload {
    /// That of a client.
    pub(super) fn new(client: usize, dice: Dice, wide: bool) -> Workload {
        Workload {
            client,
            dice,
            values: 0,
            wide,
        }
    }

    fn path(&self) -> ByteString {
        let parent = *self.dice.pick(&NAMES);
        match self.dice.within(0..5) {
            0..2 => parent.into(),
            _ => format!("{parent}/{}", self.dice.within(0..3)).into(),
        }
    }

    /// Data that nobody else ever writes.
    fn value(&mut self) -> Option<Bytes> {
        self.values += 1;
        let padding = match self.dice.within(0..10) {
            0 => self.dice.within(0..2000) as usize,
            _ => 0,
        };
        let value = format!("{}-{}{}", self.client, self.values, ".".repeat(padding));
        Some(value.into())
    }

    fn version(&self) -> i32 {
        match self.dice.within(0..3) {
            0 => self.dice.within(0..4) as i32,
            _ => -1,
        }
    }

    fn create(&mut self) -> Write {
        let mode = match self.wide && self.dice.chance(30) {
            true => self.mode_of_what_goes_by_itself(),
            false => CreateMode {
                node_type: match self.dice.chance(40) {
                    true => NodeType::Ephemeral,
                    false => NodeType::Persistent,
                },
                sequential: self.dice.chance(25),
            },
        };
        let path = match mode.sequential {
            true => format!("{}/s-", self.dice.pick(&NAMES)).into(),
            false => self.path(),
        };
        Write::Create {
            path,
            data: self.value(),
            acl: acl::open().to_vec(),
            mode,
            with_stat: self.dice.chance(20),
        }
    }

    fn mode_of_what_goes_by_itself(&self) -> CreateMode {
        let ttl_ms = self.dice.within(200..4000) as i64;
        let ttl = NodeType::Ttl { ttl_ms };
        match self.dice.within(0..3) {
            0 => CreateMode {
                node_type: ttl,
                sequential: self.dice.chance(25),
            },
            _ => CreateMode {
                node_type: NodeType::Container,
                sequential: false,
            },
        }
    }

    fn write(&mut self) -> Write {
        let path = self.path();
        let version = self.version();
        match self.dice.within(0..10) {
            0..5 => self.create(),
            5..7 => Write::Delete { path, version },
            _ => Write::SetData {
                path,
                data: self.value(),
                version,
            },
        }
    }

    fn part(&mut self) -> Write {
        match self.dice.within(0..4) {
            0 => Write::Check {
                path: self.path(),
                version: self.version(),
            },
            _ => self.write(),
        }
    }

    /// The next request.
    pub(super) fn request(&mut self) -> Request {
        if self.wide && self.dice.chance(15) {
            return Request::Sync { path: "/".into() };
        }
        match self.dice.within(0..20) {
            0..10 => Request::Write(self.write()),
            10..12 => {
                let parts = self.dice.within(1..4);
                Request::Multi((0..parts).map(|_| self.part()).collect())
            }
            12 => Request::Sync { path: "/".into() },
            _ => Request::Read(self.read()),
        }
    }

    fn read(&mut self) -> Read {
        let path = self.path();
        if self.wide && self.dice.chance(25) {
            return self.of_watches_that_stay(path);
        }
        let watch = self.dice.chance(60);
        match self.dice.within(0..3) {
            0 => Read::Exists { path, watch },
            1 => Read::GetData { path, watch },
            _ => Read::GetChildren {
                path,
                watch,
                with_stat: true,
            },
        }
    }

    fn of_watches_that_stay(&self, path: ByteString) -> Read {
        let recursive = self.dice.chance(50);
        let path = match recursive && self.dice.chance(20) {
            true => "/".into(),
            false => path,
        };
        match self.dice.within(0..4) {
            0 => Read::RemoveWatches {
                path,
                kind: *self.dice.pick(&[
                    None,
                    Some(WatchKind::Persistent),
                    Some(WatchKind::PersistentRecursive),
                ]),
            },
            _ => Read::AddWatch { path, recursive },
        }
    }

    /// A write that can always be done, whatever there is.
    pub(super) fn last_word(&mut self) -> Request {
        Request::Write(Write::Create {
            path: format!("/last-{}-", self.client).into(),
            data: self.value(),
            acl: acl::open().to_vec(),
            mode: CreateMode {
                sequential: true,
                ..CreateMode::default()
            },
            with_stat: false,
        })
    }

    /// Every path that is not sequential, read once: what a client looks at when all is over.
    pub(super) fn look_around() -> impl Iterator<Item = Request> {
        let read = |path: ByteString| {
            let watch = false;
            Request::Read(Read::GetData { path, watch })
        };
        let children = |path: ByteString| {
            Request::Read(Read::GetChildren {
                path,
                watch: false,
                with_stat: true,
            })
        };
        NAMES
            .iter()
            .flat_map(move |&path| [read(path.into()), children(path.into())])
    }
}
