//! What was used last, within a bound of memory.
//!
//! It may not know what is kept. Two generations instead of a list in order of use: what was not asked for while the young one
//! filled goes.

use std::collections::HashMap;
use std::hash::Hash;

/// Values by key, of which those that were not used for long go when there are too many. Cloned when given out: keep [`std::sync::Arc`]s.
pub struct Recent<K, V> {
    young: HashMap<K, (V, usize)>,
    old: HashMap<K, (V, usize)>,
    young_weight: usize,
    half: usize,
}

impl<K: Eq + Hash + Clone, V: Clone> Recent<K, V> {
    /// Keeps values of about this weight together, and one more of any weight.
    pub fn new(weight_max: usize) -> Self {
        Recent { young: HashMap::new(), old: HashMap::new(), young_weight: 0, half: weight_max / 2 }
    }

    /// The value, if it is kept. Using it keeps it.
    pub fn get(&mut self, key: &K) -> Option<V> {
        if let Some((found, _)) = self.young.get(key) {
            return Some(found.clone());
        }
        let (found, weight) = self.old.remove(key)?;
        self.put(key.clone(), found.clone(), weight);
        Some(found)
    }

    /// Keeps a value.
    pub fn put(&mut self, key: K, value: V, weight: usize) {
        if self.young_weight >= self.half {
            self.old = std::mem::take(&mut self.young);
            self.young_weight = 0;
        }
        self.young_weight += weight;
        if let Some((_, replaced)) = self.young.insert(key, (value, weight)) {
            self.young_weight -= replaced;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_sum_is_bounded() {
        let mut recent = Recent::new(100);
        recent.put(0, 0, 10);
        for n in 1..1000 {
            recent.put(n, n, 10);
            assert_eq!(recent.get(&0), Some(0), "after {n} others");
            assert!((recent.young.len() + recent.old.len()) * 10 <= 120);
        }
        assert_eq!((recent.get(&1), recent.get(&999)), (None, Some(999)));
        // The same again weighs nothing more.
        (0..100).for_each(|_| recent.put(999, 1, 10));
        assert_eq!((recent.get(&0), recent.get(&999)), (Some(0), Some(1)));
    }
}
