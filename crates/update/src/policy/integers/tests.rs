use params::TensorSpec;
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{Checked, UpdateFault, check};

fn rule(pattern: &str, policy: Policy) -> Rule {
    Rule { pattern: pattern.to_owned(), policy, coordinate_max: None }
}

/// Integers a 0..1 (0-d) max, b 1..3 max, c 3..5 kept, d 5..6 skipped, e 6..8 max; floats m 0..2 and w 2..5 averaged,
/// s 5..6 (0-d) max.
fn layout() -> Layout {
    Layout::new(vec![
        TensorSpec::integers("a.count", []),
        TensorSpec::integers("b.count", [2]),
        TensorSpec::integers("c.own", [2, 1]),
        TensorSpec::integers("d", [1]),
        TensorSpec::integers("e.count", [2]),
        TensorSpec::integers("f.count", [0]),
        TensorSpec::new("m", [2]),
        TensorSpec::new("w", [3]),
        TensorSpec::new("z.count", []),
    ])
    .unwrap()
}

fn form() -> Form {
    let rules = [rule("*.count", Policy::Max), rule("c.*", Policy::KeepLocal)];
    Form::new(&layout(), &rules, 2.0).unwrap()
}

#[test]
fn integers_travel_behind_the_floats_whose_largest_counts() {
    let form = form();
    assert_eq!((form.averaged(), form.maxed(), form.max_integers()), (5, 1, 5));
    assert_eq!(form.bytes(&Encoding::Bf16), 5 * 2 + 4 + 5 * 8);
    assert_eq!(form.locate_maxed(0), Some(("z.count", 0)));
    let mut update = vec![7; 5 * 2];
    update.extend(1.5f32.to_le_bytes());
    form.write_integers(&[1, -2, i64::MAX, 50, 51, 60, i64::MIN, 8], &mut update);
    let golden =
        ["0100000000000000", "feffffffffffffff", "ffffffffffffff7f", "0000000000000080", "0800000000000000"];
    let hex: String = update[14..].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, golden.concat());
    let (payload, maxed) = form.split(&Encoding::Bf16, &update).unwrap();
    assert_eq!((payload, maxed), (&[7; 10][..], &1.5f32.to_le_bytes()[..]));
    let integers = form.read_integers(&Encoding::Bf16, &update).unwrap();
    assert_eq!(integers, [1, -2, i64::MAX, i64::MIN, 8]);
    for other in [&update[1..], &update[..13], &[], &[&update[..], &[0; 8]].concat()] {
        assert_eq!(form.split(&Encoding::Bf16, other), None);
        assert_eq!(form.read_integers(&Encoding::Bf16, other), None);
    }
}

#[test]
fn without_a_rule_integers_are_skipped_and_floats_averaged() {
    let form = Form::new(&layout(), &[], 2.0).unwrap();
    assert_eq!((form.averaged(), form.maxed(), form.max_integers()), (6, 0, 0));
    assert_eq!(form.kept_local_integers(), []);
    assert_eq!(form.bytes(&Encoding::F32), 24);
    let mut update = vec![1; 24];
    form.write_integers(&[9; 8], &mut update);
    assert_eq!(update.len(), 24);
    assert_eq!(form.read_integers(&Encoding::F32, &update), Some(vec![]));
}

#[test]
fn kept_and_skipped_integers_do_not_travel() {
    let rules =
        [rule("*.count", Policy::Skip), rule("c.own", Policy::KeepLocal), rule("d", Policy::KeepLocal)];
    let form = Form::new(&layout(), &rules, 2.0).unwrap();
    assert_eq!(form.kept_local_integers(), std::slice::from_ref(&(3..6)));
    assert_eq!((form.kept_local(), form.max_integers()), (&[][..], 0));
    assert_eq!(form.bytes(&Encoding::F32), 20);
}

#[test]
fn the_average_of_integers_is_refused_with_what_is_possible() {
    let error = |rules: &[Rule]| Form::new(&layout(), rules, 2.0).unwrap_err().to_string();
    let text = |tensor: &str, pattern: &str| {
        format!(
            "tensor '{tensor}' holds integers, which policy 'average' of pattern '{pattern}' would round: give it \
             'max', 'keep-local' or 'skip' in a rule before, or no rule, which is 'skip' for integers"
        )
    };
    assert_eq!(error(&[rule("d", Policy::Average)]), text("d", "d"));
    assert_eq!(error(&[rule("a.*", Policy::Max), rule("*", Policy::Average)]), text("b.count", "*"));
    // Of a tensor without elements too: the rule is as wrong.
    assert_eq!(error(&[rule("f*", Policy::Average)]), text("f.count", "f*"));
    // A rule before it decides.
    let rules = [rule("*.count", Policy::Max), rule("c*", Policy::Skip), rule("d", Policy::Skip)];
    let rules = [&rules[..], &[rule("*", Policy::Average)]].concat();
    assert_eq!(Form::new(&layout(), &rules, 2.0).unwrap().averaged(), 5);
}

#[test]
fn integers_alone_are_nothing_that_is_averaged() {
    let layout = Layout::new(vec![TensorSpec::integers("n", [])]).unwrap();
    for rules in [&[][..], &[rule("n", Policy::Max)]] {
        assert_eq!(Form::new(&layout, rules, 1.0), Err(FormError::NothingAveraged));
    }
}

#[test]
fn sums_end_at_the_edges() {
    let form = form();
    let mut flat = [10, i64::MAX - 1, i64::MIN + 1, 30, 31, 40, 5, -5];
    form.raise_integers(&[3, 2, -2, i64::MIN, i64::MAX], &mut flat);
    assert_eq!(flat, [13, i64::MAX, i64::MIN, 30, 31, 40, i64::MIN + 5, i64::MAX - 5]);
}

#[test]
fn a_float_without_dimensions_is_as_any_other() {
    let layout = Layout::new(vec![TensorSpec::new("scale", []), TensorSpec::new("w", [2])]).unwrap();
    let form = Form::new(&layout, &[rule("w", Policy::Skip)], 2.0).unwrap();
    assert_eq!((form.averaged(), form.locate(0)), (1, Some(("scale", 0))));
    let fault = check(&form, &Encoding::F32, &(-3f32).to_le_bytes(), None).unwrap_err();
    assert_eq!(fault.to_string(), "tensor 'scale' has -3 at index 0, beyond the coordinate bound of 2");
}

#[test]
fn a_check_takes_any_integer_and_no_other_length() {
    let form = form();
    let mut update: Vec<u8> = [1f32, 2.0, 0.0, 2.0, 0.0, 1e30].iter().flat_map(|v| v.to_le_bytes()).collect();
    form.write_integers(&[i64::MIN, i64::MAX, -1, 0, 0, 0, 1, 2], &mut update);
    let checked = check(&form, &Encoding::F32, &update, Some(3.0));
    assert_eq!(checked, Ok(Checked { norm: Some(3.0) }), "integers are no part of the norm");
    let fault = check(&form, &Encoding::F32, &update[..update.len() - 8], None);
    assert_eq!(fault, Err(UpdateFault::Length { found: 56, expected: 64 }));
    // The bytes of floats are looked at, those of integers not.
    update[20..24].copy_from_slice(&f32::NAN.to_le_bytes());
    let fault = check(&form, &Encoding::F32, &update, None).unwrap_err().to_string();
    assert_eq!(fault, "tensor 'z.count' has NaN at index 0, every element must be finite");
}

proptest! {
    /// What is written is read back, and every integer has the fate that its rule says.
    #[test]
    fn every_integer_has_one_place(tensors in vec((0usize..4, 1usize..4), 1..12), seed: i32) {
        let name = |i: usize| format!("t{i:02}");
        let mut specs = vec![TensorSpec::new("w", [3])];
        specs.extend(tensors.iter().enumerate().map(|(i, (n, _))| TensorSpec::integers(name(i), [*n])));
        let layout = Layout::new(specs).unwrap();
        let rules: Vec<Rule> =
            tensors.iter().enumerate().map(|(i, (_, policy))| rule(&name(i), Policy::ALL[*policy].1)).collect();
        let form = Form::new(&layout, &rules, 1.0).unwrap();
        let flat: Vec<i64> = (0..layout.integers()).map(|i| i64::from(seed) * (i as i64 + 1)).collect();
        let mut update = vec![0; 12];
        form.write_integers(&flat, &mut update);
        prop_assert_eq!(update.len() as u64, form.bytes(&Encoding::F32));
        let read = form.read_integers(&Encoding::F32, &update).unwrap();
        let mut raised = vec![100; flat.len()];
        form.raise_integers(&read, &mut raised);
        let kept = |at: usize| form.kept_local_integers().iter().any(|range| range.contains(&at));
        for ((_, range), (_, policy)) in layout.integer_ranges().zip(&tensors) {
            let policy = Policy::ALL[*policy].1;
            for at in range {
                let expected = if policy == Policy::Max { 100 + flat[at] } else { 100 };
                prop_assert_eq!(raised[at], expected);
                prop_assert_eq!(kept(at), policy == Policy::KeepLocal);
            }
        }
    }
}
