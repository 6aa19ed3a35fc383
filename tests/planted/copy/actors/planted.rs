//! Which bug is planted. This module stands only in the copy that `cargo planted` makes.

use std::cell::RefCell;

thread_local! {
    static PLANTED: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Plants this bug, and no other, for this thread; an empty name plants none.
pub fn plant(name: &str) {
    PLANTED.set(name.to_owned());
}

/// Whether this bug is planted.
pub(crate) fn is(name: &str) -> bool {
    PLANTED.with_borrow(|planted| planted == name)
}
