//! What somebody who misspelt a word probably meant.

/// `; did you mean "x"?`, if one of the known words is near enough to be meant.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    nearest(word, known).map_or_else(String::new, |meant| format!("; did you mean {meant:?}?"))
}

fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A letter in three may be wrong: another word is no spelling of this one.
    let near = word.chars().count().div_ceil(3);
    known
        .map(|known| (distance(known, word), known))
        .filter(|(distance, _)| *distance <= near)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.chars().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.chars().count()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found_if_one_is_near() {
        let near = |word| nearest(word, ["minio", "garage", "aws"].into_iter());
        assert_eq!(near("mino"), Some("minio"));
        assert_eq!(near("garbage"), Some("garage"));
        assert_eq!(near("bogus"), None);
        assert_eq!(nearest("x", [].into_iter()), None);
        let said = did_you_mean("awss", ["aws"].into_iter());
        assert_eq!(said, "; did you mean \"aws\"?");
        assert_eq!(did_you_mean("swift", ["aws"].into_iter()), "");
    }
}
