//! Quotas: what is kept of each below `/zookeeper/quota`, and the commands that set, show and remove them.

use std::collections::BTreeMap;

use zookeeper_client::{Acls, CreateMode, CreateOptions};

use super::error::ShellError;
use super::session::Session;
use super::words::Arguments;
use crate::terminal::{print, print_line};

const ROOT: &str = "/zookeeper/quota";
const LIMITS: &str = "zookeeper_limits";
const STATS: &str = "zookeeper_stats";
/// The options, and the limits that they name.
const KEYS: [(&str, &str); 4] = [
    ("n", "count"),
    ("b", "bytes"),
    ("N", "countHardLimit"),
    ("B", "byteHardLimit"),
];
/// Stands for no limit.
const UNLIMITED: i64 = -1;

/// Figures as a quota's znodes hold them: `count=5,bytes=-1=;byteHardLimit=…`. The first two come first, and an `=`
/// stands before the others, so that clients before 3.7 read them too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Figures(BTreeMap<String, i64>);

impl Figures {
    fn parse(data: &[u8]) -> Figures {
        let text = String::from_utf8_lossy(data);
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=')?;
            let value = value.trim_end_matches('=');
            Some((key.to_owned(), value.parse().unwrap_or(UNLIMITED)))
        };
        Figures(text.split([',', ';']).filter_map(pair).collect())
    }

    fn get(&self, key: &str) -> i64 {
        self.0.get(key).copied().unwrap_or(UNLIMITED)
    }

    fn set(&mut self, key: &str, value: i64) {
        self.0.insert(key.to_owned(), value);
    }

    fn text(&self) -> String {
        let others: String = self
            .0
            .iter()
            .filter(|(key, _)| !["count", "bytes"].contains(&key.as_str()))
            .map(|(key, value)| format!(";{key}={value}"))
            .collect();
        let separator = if others.is_empty() { "" } else { "=" };
        format!(
            "count={},bytes={}{separator}{others}",
            self.get("count"),
            self.get("bytes")
        )
    }
}

fn quota_path(path: &str) -> String {
    format!("{ROOT}{}", path.trim_end_matches('/'))
}

fn limits_path(path: &str) -> String {
    format!("{}/{LIMITS}", quota_path(path))
}

fn stats_path(path: &str) -> String {
    format!("{}/{STATS}", quota_path(path))
}

fn missing(path: &str) -> String {
    format!("quota for {path} does not exist.")
}

pub(super) async fn list(session: &Session, path: &str) -> Result<(), ShellError> {
    eprintln!("absolute path is {}", limits_path(path));
    for (what, at) in [("quota", limits_path(path)), ("stat", stats_path(path))] {
        let data = match session.get(&at).await {
            Err(error) if error.is_no_node() => {
                eprintln!("{}", missing(path));
                return Ok(());
            }
            data => data?,
        };
        print_line(&format!(
            "Output {what} for {path} {}",
            Figures::parse(&data).text()
        ));
    }
    Ok(())
}

pub(super) async fn set(
    session: &Session,
    path: &str,
    arguments: &Arguments,
) -> Result<(), ShellError> {
    if path.starts_with(ROOT) {
        return Err(ShellError::Usage(format!(
            "cannot set a quota under the path: {ROOT}"
        )));
    }
    let mut limits = KEYS.map(|(_, key)| (key.to_owned(), UNLIMITED));
    for ((option, _), (key, limit)) in KEYS.into_iter().zip(&mut limits) {
        let Some(value) = arguments.number::<i64>(option)? else {
            continue;
        };
        if value < i64::from(key.starts_with("count")) {
            let least = if key.starts_with("count") {
                "the num quota must be greater than zero"
            } else {
                "the bytes quota must be greater than or equal to zero"
            };
            return Err(ShellError::Usage(least.to_owned()));
        }
        *limit = value;
    }
    if session.stat(path).await?.is_none() {
        return Err(ShellError::Usage(format!("{path} does not exist.")));
    }
    refuse_nested(session, path).await?;
    let limits_path = limits_path(path);
    let (mut figures, exists) = match session.get(&limits_path).await {
        Ok(data) => (Figures::parse(&data), true),
        Err(error) if error.is_no_node() => (Figures(limits.iter().cloned().collect()), false),
        Err(error) => return Err(error),
    };
    for (key, limit) in limits.into_iter().filter(|(_, limit)| *limit != UNLIMITED) {
        figures.set(&key, limit);
    }
    if exists {
        session.set(&limits_path, figures.text().as_bytes()).await?;
    } else {
        create(session, path, &figures).await?;
    }
    let used = Figures::parse(&session.get(&stats_path(path)).await?);
    print(&warnings(&figures, &used));
    Ok(())
}

/// One of the limits must not lie above or below another.
async fn refuse_nested(session: &Session, path: &str) -> Result<(), ShellError> {
    let nested = |relation: &str, other: &str| {
        ShellError::Usage(format!("{path} has a {relation} {other} which has a quota"))
    };
    let own = limits_path(path);
    let below = match session.subtree(&quota_path(path)).await {
        Err(error) if error.is_no_node() => Vec::new(),
        below => below?,
    };
    for found in below {
        if let Some(other) = found.strip_suffix(&format!("/{LIMITS}"))
            && found != own
        {
            return Err(nested("child", &other[ROOT.len()..]));
        }
    }
    for (at, _) in path.match_indices('/').skip(1) {
        if session.stat(&limits_path(&path[..at])).await?.is_some() {
            return Err(nested("parent", &path[..at]));
        }
    }
    Ok(())
}

async fn create(session: &Session, path: &str, limits: &Figures) -> Result<(), ShellError> {
    let options: CreateOptions<'_> = CreateMode::Persistent.with_acls(Acls::anyone_all());
    session.make(&quota_path(path), &options).await?;
    let mut none_used = Figures::default();
    none_used.set("count", 0);
    none_used.set("bytes", 0);
    for (at, figures) in [(limits_path(path), limits), (stats_path(path), &none_used)] {
        session
            .create(&at, figures.text().as_bytes(), &options)
            .await?;
    }
    Ok(())
}

fn warnings(limits: &Figures, used: &Figures) -> String {
    let mut text = String::new();
    for (key, hard_key) in [("count", "countHardLimit"), ("bytes", "byteHardLimit")] {
        let is_low = |limit: i64| limit != UNLIMITED && limit < used.get(key);
        if is_low(limits.get(key)) || is_low(limits.get(hard_key)) {
            text.push_str(&format!(
                "[Warning]: the {key} quota you create is less than the existing {key}:{}\n",
                used.get(key)
            ));
        }
    }
    text
}

pub(super) async fn delete(
    session: &Session,
    path: &str,
    arguments: &Arguments,
) -> Result<(), ShellError> {
    let limits_path = limits_path(path);
    let data = match session.get(&limits_path).await {
        Err(error) if error.is_no_node() => {
            print_line(&format!("Quota does not exist for {path}"));
            return Ok(());
        }
        data => data?,
    };
    let named: Vec<&str> = KEYS
        .into_iter()
        .filter(|(option, _)| arguments.has(option))
        .map(|(_, key)| key)
        .collect();
    if !named.is_empty() {
        let mut figures = Figures::parse(&data);
        for key in named {
            figures.set(key, UNLIMITED);
        }
        return session.set(&limits_path, figures.text().as_bytes()).await;
    }
    for at in [limits_path, stats_path(path)] {
        session.delete(&at, None).await?;
    }
    // Away with the parents that were made for this quota, up to one that another needs.
    let mut parent = quota_path(path);
    while parent != ROOT && session.children(&parent).await?.is_empty() {
        session.delete(&parent, None).await?;
        parent.truncate(parent.rfind('/').unwrap_or(0));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_so_that_older_clients_read_them() {
        let mut figures = Figures::default();
        assert_eq!(figures.text(), "count=-1,bytes=-1");
        figures.set("count", 5);
        figures.set("countHardLimit", 10);
        figures.set("byteHardLimit", -1);
        let text = "count=5,bytes=-1=;byteHardLimit=-1;countHardLimit=10";
        assert_eq!(figures.text(), text);
        assert_eq!(Figures::parse(text.as_bytes()).text(), text);
    }

    #[test]
    fn a_limit_below_what_is_used_is_warned_about() {
        let figures = |count, hard| {
            let mut figures = Figures::default();
            figures.set("count", count);
            figures.set("countHardLimit", hard);
            figures
        };
        let used = figures(5, UNLIMITED);
        assert_eq!(warnings(&figures(5, UNLIMITED), &used), "");
        assert_eq!(
            warnings(&figures(UNLIMITED, 4), &used),
            "[Warning]: the count quota you create is less than the existing count:5\n"
        );
    }
}
