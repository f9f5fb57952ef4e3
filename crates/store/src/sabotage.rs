//! Planted defects, by name: proof that the simulation would notice such ones.
//!
//! It may not know what they do: that stands where they are asked for. In every build but the simulation's own nothing is
//! planted, and the question is a constant that the compiler removes.

/// Whether the defect `name` is planted in this process.
#[cfg(not(feature = "sabotage"))]
#[inline(always)]
pub const fn sabotaged(_name: &'static str) -> bool {
    false
}

#[cfg(feature = "sabotage")]
pub use planted::{plant, sabotaged};

#[cfg(feature = "sabotage")]
mod planted {
    use std::sync::{PoisonError, RwLock};

    static PLANTED: RwLock<Option<String>> = RwLock::new(None);

    /// Whether the defect `name` is planted in this process.
    pub fn sabotaged(name: &'static str) -> bool {
        PLANTED.read().unwrap_or_else(PoisonError::into_inner).as_deref() == Some(name)
    }

    /// Plants the defect `name` instead of the one before; none with `None`.
    pub fn plant(name: Option<&str>) {
        *PLANTED.write().unwrap_or_else(PoisonError::into_inner) = name.map(str::to_owned);
    }
}
