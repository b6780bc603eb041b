use params::TensorSpec;
use update::{Policy, Rule};

use super::*;

/// Floats m 0..2 kept, w 2..4 averaged, z 4..5 (0-d) max; integers a 0..1 (0-d) max, b 1..3 kept, c 3..4 skipped.
fn layout() -> Layout {
    Layout::new(vec![
        TensorSpec::integers("a", []),
        TensorSpec::integers("b", [2]),
        TensorSpec::integers("c", [1]),
        TensorSpec::new("m", [2]),
        TensorSpec::new("w", [2]),
        TensorSpec::new("z", []),
    ])
    .unwrap()
}

fn outgoing(learns: bool) -> Outgoing {
    let rule = |pattern: &str, policy| Rule { pattern: pattern.to_owned(), policy, coordinate_max: None };
    let rules = [
        rule("a", Policy::Max),
        rule("b", Policy::KeepLocal),
        rule("m", Policy::KeepLocal),
        rule("z", Policy::Max),
    ];
    let form = Form::new(&layout(), &rules, 8.0).unwrap();
    Outgoing::of(layout(), form, Encoding::F32, learns)
}

fn base() -> Params {
    let values = vec![10.0, 20.0, 30.0, 40.0, 50.0];
    Params::with_integers(layout(), values, vec![100, 200, i64::MAX - 1, 400]).unwrap()
}

fn change() -> Change {
    Change { values: vec![1.0, 2.0, 3.0, 4.0, 5.0], integers: vec![-6, 7, 8, 9] }
}

#[test]
fn integers_travel_behind_the_floats_and_own_ones_stay() {
    let packed = outgoing(true).pack(change(), Some(&base()), 1).unwrap();
    let mut payload: Vec<u8> = [3f32, 4.0, 5.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    payload.extend((-6i64).to_le_bytes());
    assert_eq!(packed.payload, payload);
    let carried = Carried { residual: vec![], local: vec![11.0, 22.0], integers: vec![207, i64::MAX] };
    assert_eq!(packed.carried, Some(carried));
}

#[test]
fn a_later_round_starts_from_the_own_integers() {
    let mut outgoing = outgoing(true);
    assert_eq!(outgoing.shape(), Shape { residual: 0, local: 2, integers: 2 });
    assert_eq!(*outgoing.with_own(&base()), base(), "nothing was learnt yet");
    outgoing.go_on_from(Carried { residual: vec![], local: vec![1.5, 2.5], integers: vec![-1, -2] });
    let own = outgoing.with_own(&base()).into_owned();
    assert_eq!(own.values(), [1.5, 2.5, 30.0, 40.0, 50.0]);
    assert_eq!(own.integers(), [100, -1, -2, 400]);
    let carried = outgoing.pack(change(), Some(&own), 1).unwrap().carried.unwrap();
    assert_eq!((carried.local, carried.integers), (vec![2.5, 4.5], vec![6, 6]));
}

#[test]
fn without_learning_nothing_is_carried() {
    let outgoing = outgoing(false);
    assert!(outgoing.shape().is_empty());
    assert_eq!(outgoing.no_integers(), [0; 4]);
    let packed = outgoing.pack(change(), None, 1).unwrap();
    assert_eq!((packed.payload.len(), packed.carried), (20, None));
}

#[test]
fn own_integers_alone_are_carried() {
    let layout = Layout::new(vec![TensorSpec::integers("n", []), TensorSpec::new("w", [1])]).unwrap();
    let rule = Rule { pattern: "n".to_owned(), policy: Policy::KeepLocal, coordinate_max: None };
    let form = Form::new(&layout, &[rule], 8.0).unwrap();
    let mut outgoing = Outgoing::of(layout.clone(), form, Encoding::F32, true);
    outgoing.go_on_from(Carried { residual: vec![], local: vec![], integers: vec![5] });
    let base = Params::zeros(layout);
    assert_eq!(outgoing.with_own(&base).integers(), [5]);
}
