//! Panics of this thread. Those in a task are caught by tokio, and would go by unseen.

use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static SEEN: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Notes down the panics of all threads from now on, and says nothing of them.
pub fn watch() {
    static WATCHING: Once = Once::new();
    WATCHING.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            let told = panic.to_string();
            SEEN.with_borrow_mut(|seen| {
                seen.get_or_insert(told);
            });
        }));
    });
    take();
}

/// The first panic of this thread since it was last asked.
pub fn take() -> Option<String> {
    SEEN.take()
}
