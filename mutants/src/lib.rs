#![doc = include_str!("../README.md")]
//!
//! Here lives the one macro that declares mistakes and the switch behind it; no mistake and no test of one.

/// Declares a crate's mistakes, each with a line that says what is wrong, in a module of their own.
///
/// It makes the enum `Mutant` with `Mutant::ALL` in the order of declaration, `active(mutant)` for the code that has
/// the mistake, and, with the calling crate's feature `mutants`, the public `set(Option<Mutant>)` for the test.
#[macro_export]
macro_rules! mutants {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// One wrong comparison, order or omission each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(unreachable_pub, reason = "public only with the feature")]
        pub enum Mutant { $($(#[doc = $doc])+ $name,)+ }

        #[allow(unreachable_pub, reason = "public only with the feature")]
        impl Mutant {
            /// All of them, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];
        }

        #[cfg(feature = "mutants")]
        ::std::thread_local! {
            static ACTIVE: ::std::cell::Cell<Option<Mutant>> = const { ::std::cell::Cell::new(None) };
        }

        /// Switches `mutant` on for this thread, or all off.
        #[cfg(feature = "mutants")]
        pub fn set(mutant: Option<Mutant>) {
            ACTIVE.set(mutant);
        }

        /// Whether `mutant` is switched on for this thread.
        #[cfg(feature = "mutants")]
        #[inline]
        pub(crate) fn active(mutant: Mutant) -> bool {
            ACTIVE.get() == Some(mutant)
        }

        /// Whether `mutant` is switched on: never, without the feature.
        #[cfg(not(feature = "mutants"))]
        #[inline(always)]
        pub(crate) const fn active(_: Mutant) -> bool {
            false
        }
    };
}

#[cfg(test)]
mod tests {
    mod mutant {
        crate::mutants! {
            /// One.
            One,
            /// Two.
            Two,
        }
    }
    use mutant::{Mutant, active};

    #[test]
    fn every_mistake_is_off_at_first() {
        assert_eq!(Mutant::ALL, [Mutant::One, Mutant::Two]);
        assert!(Mutant::ALL.iter().all(|&mistake| !active(mistake)));
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn one_at_a_time_is_on_and_only_in_its_thread() {
        mutant::set(Some(Mutant::Two));
        assert!(!active(Mutant::One) && active(Mutant::Two));
        assert!(std::thread::spawn(|| !active(Mutant::Two)).join().unwrap());
        mutant::set(None);
        assert!(!active(Mutant::Two));
    }
}
