//! Four-letter words: a connection may begin with one instead of a session.

use crate::config::FOUR_LETTER_WORDS;
use crate::server::Shared;
use crate::stats::Stats;

/// The answer, if the first four bytes of a connection are a word and no length.
pub(super) fn answer(first: [u8; 4], shared: &Shared) -> Option<String> {
    let word = std::str::from_utf8(&first)
        .ok()
        .filter(|word| word.bytes().all(|byte| byte.is_ascii_lowercase()))?;
    let known = FOUR_LETTER_WORDS.contains(&word);
    if !known
        || !shared
            .config
            .four_letter_words
            .iter()
            .any(|allowed| allowed == word)
    {
        return Some(format!(
            "{word} is not executed because it is not in the whitelist.\n"
        ));
    }
    Some(match word {
        "srvr" => shared.stats.srvr(),
        "mntr" => shared.stats.mntr(),
        "envi" => Stats::envi(),
        _ => "imok".to_owned(),
    })
}
