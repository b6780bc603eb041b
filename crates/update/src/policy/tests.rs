use params::TensorSpec;
use proptest::{collection::vec, prelude::*};

use super::*;

fn layout(tensors: &[(&str, usize)]) -> Layout {
    Layout::new(tensors.iter().map(|(name, n)| TensorSpec::new(*name, [*n])).collect()).unwrap()
}

fn rule(pattern: &str, policy: Policy) -> Rule {
    Rule { pattern: pattern.to_owned(), policy, coordinate_max: None }
}

fn bounded(pattern: &str, policy: Policy, bound: f32) -> Rule {
    Rule { coordinate_max: Some(bound), ..rule(pattern, policy) }
}

fn segment(flat: Range<usize>, at: usize, coordinate_max: f32) -> Segment {
    Segment { flat, at, coordinate_max }
}

/// a 0..2 averaged, b 2..5 max, c 5..6 kept, d 6..8 and e 8..11 averaged, f 11..13 skipped, g 13..14 max.
fn mixed() -> Form {
    let layout = layout(&[("a", 2), ("b", 3), ("c", 1), ("d", 2), ("e", 3), ("f", 2), ("g", 1)]);
    let rules = [
        rule("b", Policy::Max),
        bounded("g", Policy::Max, 9.0),
        rule("c", Policy::KeepLocal),
        rule("f", Policy::Skip),
    ];
    Form::new(&layout, &rules, 2.0).unwrap()
}

#[test]
fn words_are_policies() {
    for (word, policy) in Policy::ALL {
        assert_eq!(Policy::named(word), Some(policy));
    }
    assert_eq!(Policy::ALL.map(|(word, _)| word), ["average", "keep-local", "max", "skip"]);
    assert_eq!(Policy::named("Average"), None);
}

#[test]
fn all_is_averaged_in_one_segment_without_rules() {
    let form = Form::new(&layout(&[("a", 2), ("b", 3)]), &[], 1.5).unwrap();
    assert_eq!((form.averaged(), form.maxed()), (5, 0));
    assert_eq!(form.segments(), [segment(0..5, 0, 1.5)]);
    assert_eq!((form.max_segments(), form.kept_local()), (&[][..], &[][..]));
    assert_eq!(form.bytes(&Encoding::F32), 20);
}

#[test]
fn segments_say_what_travels_where() {
    let form = mixed();
    assert_eq!((form.averaged(), form.maxed()), (7, 4));
    assert_eq!(form.segments(), [segment(0..2, 0, 2.0), segment(6..11, 2, 2.0)]);
    assert_eq!(form.max_segments(), [segment(2..5, 0, f32::MAX), segment(13..14, 3, 9.0)]);
    assert_eq!(form.segments()[1].place(), 2..7);
    assert_eq!(form.kept_local(), std::slice::from_ref(&(5..6)));
    assert_eq!(form.bytes(&Encoding::Bf16), 7 * 2 + 4 * 4);
    assert_eq!(form.bytes(&Encoding::Sign), 4 + 1 + 4 * 4);
}

#[test]
fn another_bound_is_another_segment() {
    let layout = layout(&[("a", 1), ("b", 1), ("c", 1), ("d", 1)]);
    let rules = [bounded("b", Policy::Average, 3.0), bounded("c", Policy::Average, 3.0)];
    let form = Form::new(&layout, &rules, 1.0).unwrap();
    assert_eq!(form.segments(), [segment(0..1, 0, 1.0), segment(1..3, 1, 3.0), segment(3..4, 3, 1.0)]);
}

#[test]
fn neighbours_that_are_kept_are_one_range() {
    let rules = [rule("bn*", Policy::KeepLocal)];
    let form = Form::new(&layout(&[("bn1", 2), ("bn2", 1), ("fc", 1)]), &rules, 1.0).unwrap();
    assert_eq!(form.kept_local(), std::slice::from_ref(&(0..3)));
}

#[test]
fn the_first_rule_that_matches_counts() {
    let rules = [rule("bn.weight", Policy::Average), rule("bn.*", Policy::Skip), rule("*", Policy::Max)];
    let form = Form::new(&layout(&[("bn.mean", 1), ("bn.weight", 1), ("fc", 1)]), &rules, 1.0).unwrap();
    assert_eq!(form.segments(), [segment(1..2, 0, 1.0)]);
    assert_eq!(form.max_segments(), [segment(2..3, 0, f32::MAX)]);
}

#[test]
fn elements_are_found_by_tensor() {
    let form = mixed();
    let found: Vec<_> = (0..8).map(|index| form.locate(index)).collect();
    let expected = [("a", 0), ("a", 1), ("d", 0), ("d", 1), ("e", 0), ("e", 1), ("e", 2)];
    assert_eq!(found[..7], expected.map(Some));
    assert_eq!(found[7], None);
    let found: Vec<_> = (0..5).map(|index| form.locate_maxed(index)).collect();
    assert_eq!(found, [Some(("b", 0)), Some(("b", 1)), Some(("b", 2)), Some(("g", 0)), None]);
}

#[test]
fn empty_tensors_do_not_travel() {
    let form = Form::new(&layout(&[("a", 0), ("b", 2), ("c", 0), ("d", 1)]), &[], 1.0).unwrap();
    assert_eq!(form.segments(), [segment(0..3, 0, 1.0)]);
    assert_eq!((form.locate(0), form.locate(2)), (Some(("b", 0)), Some(("d", 0))));
}

#[test]
fn gathers_and_scatters() {
    let form = mixed();
    let flat: Vec<f32> = (0u8..14).map(f32::from).collect();
    let (mut averaged, mut maxed) = (vec![9.0], vec![9.0]);
    form.gather(&flat, &mut averaged, &mut maxed);
    assert_eq!(averaged, [0.0, 1.0, 6.0, 7.0, 8.0, 9.0, 10.0]);
    assert_eq!(maxed, [2.0, 3.0, 4.0, 13.0]);
    let mut back = vec![-1.0; 14];
    form.scatter_averaged(&averaged, &mut back);
    form.scatter_maxed(&maxed, &mut back);
    assert_eq!(back, [0.0, 1.0, 2.0, 3.0, 4.0, -1.0, 6.0, 7.0, 8.0, 9.0, 10.0, -1.0, -1.0, 13.0]);
}

#[test]
fn an_update_is_split_by_its_length() {
    let (form, update) = (mixed(), [0; 30]);
    let (payload, maxed) = form.split(&Encoding::Bf16, &update).unwrap();
    assert_eq!((payload.len(), maxed.len()), (14, 16));
    assert_eq!(form.split(&Encoding::Bf16, &update[1..]), None);
    assert_eq!(form.split(&Encoding::F32, &update), None);
}

#[test]
fn a_pattern_that_matches_nothing_is_refused() {
    let error = |names: &[(&str, usize)]| {
        Form::new(&layout(names), &[rule("fc1", Policy::Skip)], 1.0).unwrap_err().to_string()
    };
    assert_eq!(
        error(&[("fc.bias", 1), ("fc.weight", 2)]),
        "pattern 'fc1' matches no tensor, the model has 'fc.bias', 'fc.weight'"
    );
    let many = [("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 1), ("f", 1), ("g", 1)];
    let text = "pattern 'fc1' matches no tensor, the model has 'a', 'b', 'c', 'd', 'e' and 2 more";
    assert_eq!(error(&many), text);
    assert_eq!(error(&[]), "pattern 'fc1' matches no tensor, the model has none");
}

#[test]
fn something_must_be_averaged() {
    let rules = [rule("*", Policy::KeepLocal)];
    assert_eq!(Form::new(&layout(&[("a", 1)]), &rules, 1.0), Err(FormError::NothingAveraged));
    assert_eq!(Form::new(&layout(&[("a", 0)]), &[], 1.0), Err(FormError::NothingAveraged));
    assert_eq!(Form::new(&layout(&[]), &[], 1.0), Err(FormError::NothingAveraged));
}

#[test]
fn bounds_are_finite_and_positive() {
    let layout = layout(&[("a", 1)]);
    for bad in [0.0, -1.0, f32::INFINITY, f32::NAN] {
        let error = Form::new(&layout, &[], bad).unwrap_err().to_string();
        assert_eq!(error, format!("coordinate bound {bad} of the round must be finite and above 0"));
        let error = Form::new(&layout, &[bounded("a", Policy::Average, bad)], 1.0).unwrap_err().to_string();
        assert_eq!(error, format!("coordinate bound {bad} of pattern 'a' must be finite and above 0"));
    }
}

proptest! {
    /// Every element of the model has exactly one fate, and segments tile what travels.
    #[test]
    fn every_element_has_one_place(tensors in vec((0usize..5, 0usize..4, 1u8..3), 1..20)) {
        let names: Vec<String> = (0..tensors.len()).map(|i| format!("t{i:02}")).collect();
        let specs: Vec<(&str, usize)> =
            names.iter().zip(&tensors).map(|(name, (n, ..))| (name.as_str(), *n)).collect();
        let rules: Vec<Rule> = names
            .iter()
            .zip(&tensors)
            .map(|(name, (_, policy, bound))| bounded(name, Policy::ALL[*policy].1, f32::from(*bound)))
            .collect();
        let layout = layout(&specs);
        let Ok(form) = Form::new(&layout, &rules, 1.0) else {
            prop_assert!(tensors.iter().all(|(n, policy, _)| *n == 0 || *policy != 0));
            return Ok(());
        };
        let mut fate = vec![3; layout.elements()];
        let mut mark = |range: Range<usize>, policy| {
            range.for_each(|at| {
                assert_eq!(fate[at], 3, "two places");
                fate[at] = policy;
            });
        };
        for (policy, segments, elements) in
            [(0, form.segments(), form.averaged()), (2, form.max_segments(), form.maxed())]
        {
            let mut next = 0;
            for segment in segments {
                prop_assert_eq!(segment.at, next);
                prop_assert!(!segment.flat.is_empty());
                next = segment.place().end;
                mark(segment.flat.clone(), policy);
            }
            prop_assert_eq!(next, elements);
        }
        form.kept_local().iter().for_each(|range| mark(range.clone(), 1));
        for ((_, range), (_, policy, bound)) in layout.ranges().zip(&tensors) {
            for at in range {
                prop_assert_eq!(fate[at], *policy);
                let mut both = form.segments().iter().chain(form.max_segments());
                let segment = both.find(|segment| segment.flat.contains(&at));
                prop_assert!(segment.is_none_or(|segment| segment.coordinate_max == f32::from(*bound)));
            }
        }
        for index in 0..form.averaged() {
            let (name, inside) = form.locate(index).unwrap();
            let (_, range) = layout.ranges().find(|(tensor, _)| tensor.name == name).unwrap();
            prop_assert_eq!(form.averaged.flat(index), Some(range.start + inside));
        }
    }
}
