//! A one-shot watch fires once, for the first change behind the state that its read showed, and before any answer that
//! shows that change. After a reconnect, what was missed is told before the answer to SetWatches, and the rest is left
//! again. A persistent watch fires for every change, a recursive one also for those below it, until it is removed.

use std::collections::BTreeSet;

use bytestring::ByteString;
use coord_core::request::{Read, Request};
use coord_core::watch::{WatchEventType, WatchKind};
use coord_core::{OpError, Zxid};

use super::Violation;
use crate::model::{Model, Watched, events_of};
use crate::story::{Asked, Conversation, Frame, Place, Story};

const NAME: &str = "watches_fire_once_and_in_order";

/// The watches that a znode fires by its data and its being there, and those that its children fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Data,
    Children,
    Persistent,
    Recursive,
}

/// What a client holds on one connection, and what it is still to be told.
#[derive(Debug, Default)]
struct Watches {
    left: BTreeSet<(Kind, ByteString)>,
    due: Vec<(Zxid, WatchEventType, ByteString)>,
    reached: Zxid,
}

pub(super) fn check(story: &Story<'_>) -> Result<(), Violation> {
    for conversation in &story.conversations {
        follow(story, conversation)?;
    }
    Ok(())
}

fn follow(story: &Story<'_>, conversation: &Conversation) -> Result<(), Violation> {
    let mut watches = Watches::default();
    let mut missed: Vec<(Place, WatchEventType, ByteString)> = Vec::new();
    for frame in &conversation.frames {
        match frame {
            Frame::Notice {
                at,
                zxid: Zxid(-1),
                event,
                path,
            } => missed.push((*at, *event, path.clone())),
            Frame::Notice {
                at,
                zxid,
                event,
                path,
            } => {
                watches.advance(story, *zxid);
                let told = (*zxid, *event, path.clone());
                match watches.due.iter().position(|due| *due == told) {
                    // Those of one transaction may come in any order, those of different ones may not.
                    Some(number) if watches.due[number].0 == watches.due[0].0 => {
                        watches.due.remove(number);
                    }
                    _ => {
                        let why = format!("{told:?} is told, and {:?} is due", watches.due);
                        return Err(Violation::at(NAME, *at, why));
                    }
                }
            }
            Frame::Answer(number) => {
                let asked = &conversation.asked[*number];
                let Some(answer) = &asked.answer else {
                    continue;
                };
                watches.advance(story, answer.zxid);
                if let Some(due) = watches.due.first() {
                    let why = format!("{} is shown before {due:?} is told", answer.zxid);
                    return Err(Violation::at(NAME, answer.at, why));
                }
                let state = story.state(answer.zxid).unwrap_or(&story.empty);
                watches.leave(asked, state, &mut missed)?;
            }
        }
    }
    // What comes before an answer that is lost on the way is right all the same.
    let asked = |asked: &Asked| {
        let sets = matches!(asked.request, Request::Read(Read::SetWatches { .. }));
        sets && asked.answer.is_none()
    };
    match missed.first() {
        Some((at, event, path)) if !conversation.asked.iter().any(asked) => {
            let why = format!("{event:?} of {path} is told as missed, and nobody asked");
            Err(Violation::at(NAME, *at, why))
        }
        _ => Ok(()),
    }
}

impl Watches {
    /// Follows the transactions up to `zxid`: what they fire is due.
    fn advance(&mut self, story: &Story<'_>, zxid: Zxid) {
        for at in story.between(self.reached, zxid) {
            let committed = &story.committed[at];
            let before = at
                .checked_sub(1)
                .map(|before| &story.committed[before].after);
            let events = committed.txn.iter();
            for (event, path) in events.flat_map(|txn| events_of(txn, before)) {
                let kinds: &[Kind] = match event {
                    WatchEventType::NodeDeleted => &[Kind::Data, Kind::Children],
                    WatchEventType::NodeChildrenChanged => &[Kind::Children],
                    _ => &[Kind::Data],
                };
                let mut fired = false;
                for &kind in kinds {
                    fired |= self.left.remove(&(kind, path.clone()));
                }
                fired |= self.left.contains(&(Kind::Persistent, path.clone()));
                fired |= event != WatchEventType::NodeChildrenChanged && self.is_below(&path);
                if fired {
                    self.due.push((committed.zxid, event, path));
                }
            }
        }
        self.reached = self.reached.max(zxid);
    }

    /// Whether a path is that of a recursive watch, or below it.
    fn is_below(&self, path: &str) -> bool {
        self.left.iter().any(|(kind, of)| {
            let rest = path.strip_prefix(of.trim_end_matches('/'));
            *kind == Kind::Recursive
                && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// Removes the watches on a path; whether there were any.
    fn remove(&mut self, path: &ByteString, kind: Option<WatchKind>) -> bool {
        let kinds: &[Kind] = match kind {
            Some(WatchKind::Data) => &[Kind::Data],
            Some(WatchKind::Child) => &[Kind::Children],
            Some(WatchKind::Persistent) => &[Kind::Persistent],
            Some(WatchKind::PersistentRecursive) => &[Kind::Recursive],
            None => &[
                Kind::Data,
                Kind::Children,
                Kind::Persistent,
                Kind::Recursive,
            ],
        };
        let mut removed = false;
        for &kind in kinds {
            removed |= self.left.remove(&(kind, path.clone()));
        }
        removed
    }

    /// Leaves what an answered request asks for.
    fn leave(
        &mut self,
        asked: &Asked,
        state: &Model,
        missed: &mut Vec<(Place, WatchEventType, ByteString)>,
    ) -> Result<(), Violation> {
        let (Request::Read(read), Some(answer)) = (&asked.request, &asked.answer) else {
            return Ok(());
        };
        match (read, &answer.result) {
            (Read::Exists { path, watch: true }, Ok(_) | Err(OpError::NoNode)) => {
                self.left.insert((Kind::Data, path.clone()));
            }
            (Read::GetData { path, watch: true }, Ok(_)) => {
                self.left.insert((Kind::Data, path.clone()));
            }
            (
                Read::GetChildren {
                    path, watch: true, ..
                },
                Ok(_),
            ) => {
                self.left.insert((Kind::Children, path.clone()));
            }
            (Read::AddWatch { path, recursive }, Ok(_)) => {
                let kind = match recursive {
                    true => Kind::Recursive,
                    false => Kind::Persistent,
                };
                self.left.insert((kind, path.clone()));
            }
            (Read::RemoveWatches { path, kind }, result) => {
                let removed = self.remove(path, *kind);
                let right = match result {
                    Ok(_) => removed,
                    Err(error) => !removed && *error == OpError::NoWatcher,
                };
                if !right {
                    let why = format!("{read:?} is answered {result:?}, and watched: {removed}");
                    return Err(Violation::at(NAME, answer.at, why));
                }
            }
            (
                Read::SetWatches {
                    since,
                    data,
                    exist,
                    child,
                    persistent,
                    persistent_recursive,
                },
                Ok(_),
            ) => {
                let stay = [
                    (Kind::Persistent, persistent),
                    (Kind::Recursive, persistent_recursive),
                ];
                for (kind, path) in stay
                    .into_iter()
                    .flat_map(|(kind, paths)| paths.iter().map(move |path| (kind, path)))
                {
                    self.left.insert((kind, path.clone()));
                }
                let mut told: Vec<_> = std::mem::take(missed);
                let lists = [
                    (Watched::Data, Kind::Data, data),
                    (Watched::Absence, Kind::Data, exist),
                    (Watched::Children, Kind::Children, child),
                ];
                for (watched, kind, path) in lists.into_iter().flat_map(|(watched, kind, paths)| {
                    paths.iter().map(move |path| (watched, kind, path))
                }) {
                    let Some(event) = state.missed(watched, path, *since) else {
                        self.left.insert((kind, path.clone()));
                        continue;
                    };
                    let found = told
                        .iter()
                        .position(|(_, of, at)| (*of, at) == (event, path));
                    let Some(found) = found else {
                        let why = format!("{event:?} of {path} was missed and is not told");
                        return Err(Violation::at(NAME, answer.at, why));
                    };
                    told.remove(found);
                }
                if let Some((at, event, path)) = told.first() {
                    let why = format!("{event:?} of {path} is told as missed, and was not");
                    return Err(Violation::at(NAME, *at, why));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
