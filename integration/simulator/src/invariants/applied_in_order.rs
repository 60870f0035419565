//! Every process applies the same transactions in the same order: none twice, none left out but by taking over a whole
//! state.

use std::collections::BTreeMap;

use coord_core::Zxid;

use super::Violation;
use crate::history::{Event, Life};
use crate::story::Story;

const NAME: &str = "applied_in_order";

pub(super) fn check(story: &Story<'_>) -> Result<(), Violation> {
    let mut reached: BTreeMap<Life, Zxid> = BTreeMap::new();
    for (place, stamped) in story.history.0.iter().enumerate() {
        match &stamped.event {
            Event::Holds { life, state, .. } => {
                let former = reached.insert(*life, state.0.last_zxid);
                if former > Some(state.0.last_zxid) {
                    let why = format!("{life} went back to {}", state.0.last_zxid);
                    return Err(Violation::at(NAME, place, why));
                }
            }
            Event::Applied { life, zxid, .. } => {
                let former = reached.insert(*life, *zxid).unwrap_or_default();
                let skipped = story.between(former, *zxid).len();
                if *zxid <= former || skipped != 1 {
                    let why = format!("{life} applied {zxid} behind {former}");
                    return Err(Violation::at(NAME, place, why));
                }
            }
            _ => {}
        }
    }
    Ok(())
}
