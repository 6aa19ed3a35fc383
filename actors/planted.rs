//! Bugs that can be planted, to see that the simulated world finds them. None is in any ordinary build.
//!
//! `--cfg planted="NAME"` plants one when it is compiled in. `--cfg planted="any"` compiles all of them in and plants
//! none until `plant` names one: one build is enough for the whole table.

/// Whether the bug of this name is planted: `false`, decided by the compiler, in every ordinary build.
macro_rules! planted {
    ($name:literal) => {{
        #[cfg(planted = "any")]
        {
            $crate::planted::is($name)
        }
        #[cfg(not(planted = "any"))]
        {
            cfg!(planted = $name)
        }
    }};
}

#[cfg(planted = "any")]
mod chosen {
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<&'static str> = const { Cell::new("") };
    }

    /// Plants this bug, and no other, for this thread; an empty name plants none.
    pub fn plant(name: &'static str) {
        PLANTED.set(name);
    }

    /// Whether this bug is planted.
    pub(crate) fn is(name: &str) -> bool {
        PLANTED.get() == name
    }
}

#[cfg(planted = "any")]
pub(crate) use chosen::is;
#[cfg(planted = "any")]
pub use chosen::plant;
