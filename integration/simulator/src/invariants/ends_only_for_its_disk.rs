//! A process ends by itself, or does not start, only because its disk is full: never for what a crash left behind, nor
//! for what others sent it.

use super::Violation;
use crate::history::{Event, History};

const NAME: &str = "ends_only_for_its_disk";

pub(super) fn check(history: &History) -> Result<(), Violation> {
    let full = std::io::Error::from(std::io::ErrorKind::StorageFull).to_string();
    for (place, stamped) in history.0.iter().enumerate() {
        if let Event::Ended { life, why } = &stamped.event
            && !why.contains(&full)
        {
            let why = format!("{life} ends: {why}");
            return Err(Violation::at(NAME, place, why));
        }
    }
    Ok(())
}
