/// Whether the whole name matches a pattern in which `*` stands for any run of characters.
///
/// Goes back to the last `*` only, since an earlier one could take no other run that helps: at most
/// `pattern * name` steps.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    // Behind the last `*`, and where the run that it stands for ends.
    let mut back: Option<(usize, usize)> = None;
    while n < name.len() {
        match (pattern.get(p), back) {
            (Some(b'*'), _) => {
                p += 1;
                back = Some((p, n));
            }
            (Some(byte), _) if *byte == name[n] => (p, n) = (p + 1, n + 1),
            (_, Some((star, end))) => {
                (p, n) = (star, end + 1);
                back = Some((star, n));
            }
            (_, None) => return false,
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_whole_name_must_match() {
        for (pattern, name) in [
            ("*", ""),
            ("", ""),
            ("fc1.weight", "fc1.weight"),
            ("fc*", "fc"),
            ("*.weight", "a.b.weight"),
            ("*bn*.running_*", "layer.bn2.running_mean"),
            ("a*b*c", "abbbcbc"),
            ("**", "x"),
            ("*é", "caféé"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("fc1", "fc1.weight"), ("fc1.*", "fc1"), ("", "a"), ("*a", "ab"), ("a*b*c", "acb"), ("?", "a")]
        {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn many_stars_take_little_time() {
        let name = "a".repeat(10_000);
        assert!(!matches(&format!("{}b", "*a".repeat(1000)), &name));
    }

    /// By definition: a star takes nothing, or one more character.
    fn slowly(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => slowly(rest, name) || !name.is_empty() && slowly(pattern, &name[1..]),
            ([a, pattern @ ..], [b, name @ ..]) => a == b && slowly(pattern, name),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(pattern in "[ab*]{0,7}", name in "[ab]{0,9}") {
            prop_assert_eq!(matches(&pattern, &name), slowly(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
