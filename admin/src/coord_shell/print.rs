//! Results and events as text, in the form of ZooKeeper's shell.

use std::fmt::Write as _;

use zookeeper_client::{Acl, AuthId, EventType, Permission, SessionState, Stat, WatchedEvent};

use super::error::ShellError;
use crate::utc::Utc;

const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
/// The letters of permissions, in the order in which they are printed.
const PERMISSIONS: [(char, Permission); 5] = [
    ('c', Permission::CREATE),
    ('d', Permission::DELETE),
    ('r', Permission::READ),
    ('w', Permission::WRITE),
    ('a', Permission::ADMIN),
];

/// `[a, b]`.
pub(super) fn list(items: &[String]) -> String {
    format!("[{}]\n", items.join(", "))
}

/// A line for each field.
pub(super) fn stat(stat: &Stat) -> String {
    format!(
        "cZxid = {:#x}\nctime = {}\nmZxid = {:#x}\nmtime = {}\npZxid = {:#x}\ncversion = {}\ndataVersion = {}\n\
         aclVersion = {}\nephemeralOwner = {:#x}\ndataLength = {}\nnumChildren = {}\n",
        stat.czxid,
        date(stat.ctime),
        stat.mzxid,
        date(stat.mtime),
        stat.pzxid,
        stat.cversion,
        stat.version,
        stat.aversion,
        stat.ephemeral_owner,
        stat.data_length,
        stat.num_children
    )
}

/// As Java prints a date: `Thu Jan 01 00:00:00 UTC 1970`.
fn date(epoch_ms: i64) -> String {
    let utc = Utc::at(u64::try_from(epoch_ms).unwrap_or(0) / 1000);
    format!(
        "{} {} {:02} {:02}:{:02}:{:02} UTC {}",
        WEEKDAYS[utc.weekday as usize],
        MONTHS[utc.month as usize - 1],
        utc.day,
        utc.hour,
        utc.minute,
        utc.second,
        utc.year
    )
}

/// Two lines for each entry: whom it permits, and what.
pub(super) fn acl(acl: &[Acl]) -> String {
    acl.iter().fold(String::new(), |mut text, entry| {
        let letters: String = PERMISSIONS
            .into_iter()
            .filter(|(_, permission)| entry.permission().has(*permission))
            .map(|(letter, _)| letter)
            .collect();
        // Writing to a String does not fail.
        let _ = writeln!(text, "'{},'{}\n: {letters}", entry.scheme(), entry.id());
        text
    })
}

/// Reads `scheme:id:permissions,…`; an id may hold colons.
pub(super) fn parse_acl(text: &str) -> Result<Vec<Acl>, ShellError> {
    text.split(',')
        .map(|entry| {
            let form =
                || ShellError::Usage(format!("{entry} does not have the form scheme:id:perm"));
            let (scheme, rest) = entry.split_once(':').ok_or_else(form)?;
            let (id, letters) = rest.rsplit_once(':').ok_or_else(form)?;
            let mut permission = Permission::NONE;
            for letter in letters.chars() {
                let known = PERMISSIONS.into_iter().find(|(known, _)| *known == letter);
                let (_, more) = known
                    .ok_or_else(|| ShellError::Usage(format!("Unknown perm type: {letter}")))?;
                permission = permission | more;
            }
            Ok(Acl::new(permission, AuthId::new(scheme, id)))
        })
        .collect()
}

/// What a watcher is told, with the blank lines around it.
pub(super) fn event(event: &WatchedEvent) -> String {
    let (event_type, path) = match event.event_type {
        EventType::Session => ("None".to_owned(), "null"),
        other => (other.to_string(), event.path.as_str()),
    };
    watched_event(event.session_state, &event_type, path, event.zxid)
}

/// What the one who removes a watch is told.
pub(super) fn watch_removed(state: SessionState, event_type: &str, path: &str) -> String {
    watched_event(state, event_type, path, WatchedEvent::NO_ZXID)
}

fn watched_event(state: SessionState, event_type: &str, path: &str, zxid: i64) -> String {
    format!(
        "\nWATCHER::\n\nWatchedEvent state:{state} type:{event_type} path:{path} zxid: {zxid}\n"
    )
}

/// Sixteen bytes to a line, with their offset, in hexadecimal and as text.
pub(super) fn hex_dump(data: &[u8]) -> String {
    let mut text = String::new();
    for (n, line) in data.chunks(16).enumerate() {
        let hex: String = line.iter().map(|byte| format!("{byte:02x} ")).collect();
        let plain: String = line
            .iter()
            .map(|byte| match byte {
                0x20..0x7f => char::from(*byte),
                _ => '.',
            })
            .collect();
        // Writing to a String does not fail.
        let _ = writeln!(text, "|{:08x}| {hex:<48}|{plain:<16}|", n * 16);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_is_eleven_lines() {
        let example = Stat {
            czxid: 0x1_0000_0002,
            mzxid: 255,
            pzxid: 3,
            ctime: 951_782_399_999,
            mtime: 0,
            version: 4,
            cversion: 5,
            aversion: 6,
            ephemeral_owner: i64::MIN,
            data_length: 7,
            num_children: 8,
        };
        assert_eq!(
            stat(&example),
            "cZxid = 0x100000002\nctime = Mon Feb 28 23:59:59 UTC 2000\nmZxid = 0xff\n\
             mtime = Thu Jan 01 00:00:00 UTC 1970\npZxid = 0x3\ncversion = 5\ndataVersion = 4\naclVersion = 6\n\
             ephemeralOwner = 0x8000000000000000\ndataLength = 7\nnumChildren = 8\n"
        );
    }

    #[test]
    fn an_acl_is_read_and_printed() {
        let parsed = parse_acl("world:anyone:r,digest:a:b=:wradc").unwrap();
        assert_eq!(
            acl(&parsed),
            "'world,'anyone\n: r\n'digest,'a:b=\n: cdrwa\n"
        );
        let message = |text| parse_acl(text).unwrap_err().to_string();
        assert_eq!(
            message("world:r"),
            "world:r does not have the form scheme:id:perm"
        );
        assert_eq!(message("world:anyone:x"), "Unknown perm type: x");
    }

    #[test]
    fn events_name_state_type_path_and_zxid() {
        assert_eq!(
            event(&WatchedEvent::new_session(SessionState::SyncConnected)),
            "\nWATCHER::\n\nWatchedEvent state:SyncConnected type:None path:null zxid: -1\n"
        );
        assert_eq!(
            event(&WatchedEvent::new(EventType::NodeDeleted, "/a").with_zxid(7)),
            "\nWATCHER::\n\nWatchedEvent state:SyncConnected type:NodeDeleted path:/a zxid: 7\n"
        );
    }

    #[test]
    fn a_dump_shows_bytes_and_text() {
        assert_eq!(list(&["a".to_owned(), "b".to_owned()]), "[a, b]\n");
        assert_eq!(
            hex_dump(b"hello, world\x00\n!xyz"),
            format!(
                "|00000000| {:<48}|hello, world..!x|\n|00000010| {:<48}|{:<16}|\n",
                "68 65 6c 6c 6f 2c 20 77 6f 72 6c 64 00 0a 21 78", "79 7a", "yz"
            )
        );
    }
}
