//! Which keys are loaded together, where one of them may fail the others.

use super::LoadError;

/// What is to be loaded, in parts of one query each. Where one key of a part fails it, the part is halved until that key
/// stands alone, so that it costs the others two queries for each time that they are halved, and no answer.
#[derive(Debug)]
pub struct Halves<T> {
    left: Vec<Vec<T>>,
}

impl<T> Halves<T> {
    /// All of `whole` in one part.
    pub fn new(whole: Vec<T>) -> Self {
        Self { left: vec![whole] }
    }

    /// What to load next, by one query; never empty.
    pub fn next_part(&mut self) -> Option<Vec<T>> {
        std::iter::from_fn(|| self.left.pop()).find(|part| !part.is_empty())
    }

    /// Takes note that the query for `part` ended with `error`. If that may be one key's fault, both halves come again;
    /// else the part is handed back, since the error is everybody's in it.
    pub fn halve(&mut self, mut part: Vec<T>, error: &LoadError) -> Option<Vec<T>> {
        if part.len() < 2 || !error.is_one_key_s() {
            return Some(part);
        }
        let second = part.split_off(part.len() / 2);
        self.left.extend([second, part]);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_s_fault_is_found_and_the_others_are_loaded() {
        let mut parts = Halves::new((0..100).collect());
        let (mut loaded, mut failed, mut queries) = (Vec::new(), Vec::new(), 0);
        while let Some(part) = parts.next_part() {
            queries += 1;
            match part.contains(&41) {
                true => {
                    failed.extend(parts.halve(part, &LoadError::row("41 is spoilt")).into_iter().flatten())
                }
                false => loaded.extend(part),
            }
        }
        assert_eq!(failed, [41]);
        assert_eq!(loaded, (0..100).filter(|key| *key != 41).collect::<Vec<_>>(), "in their order");
        assert!(queries <= 15, "{queries} queries");
    }

    #[test]
    fn the_origin_s_failure_is_everybody_s() {
        let mut parts = Halves::new(vec![1, 2, 3]);
        let part = parts.next_part().expect("there are keys");
        assert_eq!(parts.halve(part, &LoadError::Busy(1)), Some(vec![1, 2, 3]));
        assert_eq!(parts.next_part(), None);
        assert_eq!(Halves::<u8>::new(Vec::new()).next_part(), None);
    }
}
