//! The known name that a wrong one was probably meant to be.

/// A wrong name longer than this gets no suggestion: the search is quadratic in its length.
const NAME_BYTES_MAX: usize = 128;

/// The candidate nearest to `wrong`, if one is near enough to be meant: at most a third of the name, and no
/// more than three edits (insert, delete, change, swap neighbours). Of equals, the first.
///
/// Damerau-Levenshtein distance; names are compared without regard to case.
pub fn nearest<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if wrong.len() > NAME_BYTES_MAX {
        return None;
    }
    let lower = wrong.to_lowercase();
    let edits_max = (lower.chars().count() / 3).min(3);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(edits, _)| *edits <= edits_max)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_near_is_suggested() {
        let known = ["ttl", "ttl_jitter", "capacity", "node.listen"];
        assert_eq!(nearest("tttl", known), Some("ttl"));
        assert_eq!(nearest("TTL", known), Some("ttl"));
        assert_eq!(nearest("capactiy", known), Some("capacity"));
        assert_eq!(nearest("node.lisen", known), Some("node.listen"));
        assert_eq!(nearest("zzz", known), None);
        assert_eq!(nearest("", known), None);
        assert_eq!(nearest(&"t".repeat(4096), known), None);
    }
}
