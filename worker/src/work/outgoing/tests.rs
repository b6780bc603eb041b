use job::Job;
use params::TensorSpec;

use super::*;
use crate::work::tests::JOB;

mod integers;

fn layout() -> Layout {
    let tensors = [("body", 3), ("norm", 2), ("peak", 1), ("skipped", 1)];
    Layout::new(tensors.map(|(name, elements)| TensorSpec::new(name, [elements])).to_vec()).unwrap()
}

const RULES: &str = r#"tensors = [
    { match = "norm", policy = "keep-local" },
    { match = "peak", policy = "max" },
    { match = "skipped", policy = "skip" },
]"#;

fn outgoing(aggregate: &str) -> Outgoing {
    Outgoing::new(&Job::parse(&format!("{JOB}{aggregate}\n")).unwrap(), layout()).unwrap()
}

fn base() -> Params {
    Params::new(layout(), vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]).unwrap()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

const UPDATE: [f32; 7] = [0.5, -0.25, 0.0, 0.125, -0.5, 2.0, 9.0];

/// Of floats alone.
fn change(values: impl Into<Vec<f32>>) -> Change {
    Change { values: values.into(), integers: Vec::new() }
}

#[test]
fn a_plain_update_is_not_copied_and_nothing_is_carried() {
    let update = UPDATE.to_vec();
    let place = update.as_ptr();
    let (values, maxed) = outgoing("").gather(update);
    assert_eq!((values.as_ptr(), maxed.len()), (place, 0));
    let packed = outgoing("").pack(change(UPDATE), Some(&base()), 1).unwrap();
    assert_eq!(packed, Packed { payload: bytes(&UPDATE), carried: None });
    assert_eq!(packed.payload.capacity(), packed.payload.len());
    assert!(matches!(outgoing("").with_own(&base()), Cow::Borrowed(_)));
}

#[test]
fn averaged_elements_come_first_then_the_largest_and_own_ones_stay() {
    let packed = outgoing(&format!("encoding = \"bf16\"\n{RULES}")).pack(change(UPDATE), Some(&base()), 1);
    let packed = packed.unwrap();
    // The upper halves of 0.5, -0.25 and 0, and then 2 as it is.
    assert_eq!(packed.payload, [0x00, 0x3f, 0x80, 0xbe, 0, 0, 0, 0, 0, 0x40]);
    let local = vec![4.125, 4.5];
    assert_eq!(packed.carried, Some(Carried { local: local.clone(), ..Carried::default() }));
    let mut next = outgoing(RULES);
    assert_eq!(next.shape(), Shape { residual: 0, local: 2, integers: 0 });
    next.go_on_from(Carried { local, ..Carried::default() });
    let version = base();
    let own = next.with_own(&version);
    assert_eq!(own.values(), [1.0, 2.0, 3.0, 4.125, 4.5, 6.0, 7.0]);
    // From its own values it learns on.
    let again = next.pack(change(UPDATE), Some(&own), 1).unwrap();
    assert_eq!(again.carried.unwrap().local, [4.25, 4.0]);
}

#[test]
fn what_was_left_out_is_added_to_the_next_update() {
    let top = format!("encoding = {{ kind = \"top-k\", fraction = 0.4 }}\n{RULES}");
    let pack = |carried: Carried| {
        let mut outgoing = outgoing(&top);
        assert_eq!(outgoing.shape(), Shape { residual: 3, local: 2, integers: 0 });
        outgoing.go_on_from(carried);
        outgoing.pack(change(UPDATE), Some(&base()), 1).unwrap()
    };
    let decoded = |packed: &Packed| {
        let mut values = [9.0; 3];
        let (averaged, maxed) = packed.payload.split_at(packed.payload.len() - 4);
        Encoding::TopK { fraction: 0.4 }.decode(averaged, 3, 0, &mut values);
        assert_eq!(maxed, bytes(&[2.0]));
        values
    };
    let first = pack(Carried::default());
    assert_eq!(decoded(&first), [0.5, -0.25, 0.0]);
    let carried = Carried { residual: vec![0.0, -1.5, 0.75], ..Carried::default() };
    let second = pack(carried);
    assert_eq!(decoded(&second), [0.0, -1.75, 0.75]);
    assert_eq!(second.carried.unwrap().residual, [0.5, 0.0, 0.0]);
}

#[test]
fn an_element_that_is_not_finite_is_named() {
    let fail = |aggregate: &str, at: usize, carried: Carried| {
        let mut update = UPDATE.to_vec();
        update[at] = f32::MAX;
        let mut outgoing = outgoing(aggregate);
        outgoing.go_on_from(carried);
        let mut base = base();
        base.values_mut()[4] = f32::MAX;
        outgoing.pack(change(update), Some(&base), 1).unwrap_err().to_string()
    };
    let residual = Carried { residual: vec![0.0, f32::MAX, 0.0], ..Carried::default() };
    let sign = format!("encoding = \"sign\"\n{RULES}");
    assert_eq!(fail(&sign, 1, residual), "tensor 'body' has inf at index 1, every element must be finite");
    let own = fail(RULES, 4, Carried::default());
    assert_eq!(own, "tensor 'norm' has inf at index 1, every element must be finite");
    let mut update = UPDATE.to_vec();
    update[5] = f32::NAN;
    let largest = outgoing(RULES).pack(change(update), Some(&base()), 1).unwrap_err().to_string();
    assert_eq!(largest, "tensor 'peak' has NaN at index 0, every element must be finite");
}

#[test]
fn a_gradient_teaches_no_own_values() {
    let job = JOB.replace("optimizer = \"gd\"\nlr = 0.1\nepochs = 2", "mode = \"gradient\"");
    let rules = RULES.replace("max", "skip");
    let outgoing = Outgoing::new(&Job::parse(&format!("{job}{rules}\n")).unwrap(), layout()).unwrap();
    assert!(outgoing.shape().is_empty());
    let packed = outgoing.pack(change(UPDATE), Some(&base()), 1).unwrap();
    assert_eq!(packed, Packed { payload: bytes(&UPDATE[..3]), carried: None });
}

#[test]
fn own_values_are_not_put_into_another_model() {
    let mut outgoing = outgoing(RULES);
    outgoing.go_on_from(Carried { local: vec![0.0; 2], ..Carried::default() });
    let other = Params::zeros(Layout::new(vec![TensorSpec::new("w", [1])]).unwrap());
    assert!(matches!(outgoing.with_own(&other), Cow::Borrowed(_)));
}

#[test]
fn rules_that_do_not_fit_the_model_are_the_reason() {
    let job = format!("{JOB}tensors = [{{ match = \"typo\", policy = \"skip\" }}]\n");
    let error = Outgoing::new(&Job::parse(&job).unwrap(), layout()).unwrap_err();
    assert!(error.reason.starts_with("aggregate.tensors: pattern 'typo' matches no tensor"), "{error:?}");
}
