use proptest::prelude::*;
use safetensors::tensor::{TensorView, serialize};

use super::*;

/// Numbered elements.
fn numbered(tensors: Vec<TensorSpec>) -> Params {
    let layout = Layout::new(tensors).unwrap();
    let values = (0..layout.elements()).map(|i| i as f32 - 0.5).collect();
    let integers = (0..layout.integers()).map(|i| i64::MIN + i as i64).collect();
    Params::with_integers(layout, values, integers).unwrap()
}

/// The file of the library, which is told the tensors by name.
fn library(params: &Params) -> Vec<u8> {
    let bytes = |name: &str| -> Vec<u8> {
        match (params.tensor(name), params.integer_tensor(name)) {
            (Some(values), None) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            (None, Some(integers)) => integers.iter().flat_map(|v| v.to_le_bytes()).collect(),
            both => panic!("{name}: {both:?}"),
        }
    };
    let tensors = params.layout().tensors();
    let data: Vec<Vec<u8>> = tensors.iter().map(|spec| bytes(&spec.name)).collect();
    let views = tensors.iter().zip(&data).map(|(spec, data)| {
        let dtype = if spec.dtype == Dtype::I64 { FileDtype::I64 } else { FileDtype::F32 };
        (spec.name.clone(), TensorView::new(dtype, spec.shape.clone(), data).unwrap())
    });
    serialize(views, None).unwrap()
}

#[test]
fn the_file_is_the_one_that_the_library_writes() {
    for tensors in [
        vec![],
        vec![TensorSpec::new("w", [2, 2]), TensorSpec::new("b", [1])],
        vec![TensorSpec::new("a.\"quoted\"", [0]), TensorSpec::new("scalar", []), TensorSpec::new("ä", [3])],
        vec![TensorSpec::integers("n", [])],
        vec![
            TensorSpec::new("bn.running_mean", [3]),
            TensorSpec::new("bn.scale", []),
            TensorSpec::integers("bn.num_batches_tracked", []),
            TensorSpec::new("fc", [1, 5]),
            TensorSpec::integers("a.steps", [2, 1]),
            TensorSpec::integers("z.none", [0]),
        ],
    ] {
        let params = numbered(tensors);
        let (layout, bytes) = (params.layout(), params.to_bytes());
        let file = library(&params);
        assert_eq!(params.to_safetensors().unwrap(), file);
        assert_eq!(Params::from_safetensors(&file).unwrap(), params);
        let (integers, values) = bytes.split_at(8 * layout.integers());
        assert_eq!(safetensors_values(layout, &file).unwrap(), values);
        assert_eq!(safetensors_integers(layout, &file).unwrap(), integers);
        let longer = [&file[..], &[0; 4]].concat();
        assert!(safetensors_values(layout, &longer).is_err());
        assert!(safetensors_integers(layout, &longer).is_err());
    }
    let other = Layout::new(vec![TensorSpec::new("v", [2, 2]), TensorSpec::new("b", [1])]).unwrap();
    assert!(safetensors_values(&other, &two().to_safetensors().unwrap()).is_err());
    // Two floats are as long as an integer, and none.
    let other = Layout::new(vec![TensorSpec::new("n", [2])]).unwrap();
    assert!(safetensors_values(&other, &library(&numbered(vec![TensorSpec::integers("n", [])]))).is_err());
}

#[test]
fn a_file_of_another_length_says_by_how_much() {
    let params = numbered(vec![TensorSpec::integers("n", []), TensorSpec::new("w", [3])]);
    let mut file = params.to_safetensors().unwrap();
    file.pop();
    let error = safetensors_values(params.layout(), &file).unwrap_err().to_string();
    assert_eq!(error, "19 bytes for a layout of 20");
    let error = Params::from_bytes(params.layout().clone(), &params.to_bytes()[1..]).unwrap_err().to_string();
    assert_eq!(error, "19 bytes for a layout of 20");
}

#[test]
fn integers_are_exact_and_have_names() {
    let layout = Layout::new(vec![
        TensorSpec::integers("n", []),
        TensorSpec::new("scale", []),
        TensorSpec::integers("m", [2]),
    ])
    .unwrap();
    let mut params = Params::zeros(layout.clone());
    assert_eq!((params.values(), params.integers()), (&[0.0][..], &[0, 0, 0][..]));
    // No f32 and no f64 holds these.
    params.integers_mut().copy_from_slice(&[i64::MAX, (1 << 53) + 1, -7]);
    params.values_mut()[0] = 2.5;
    assert_eq!(params.integer_tensor("m"), Some(&[i64::MAX, (1 << 53) + 1][..]));
    assert_eq!(params.integer_tensor("n"), Some(&[-7][..]));
    assert_eq!((params.integer_tensor("scale"), params.tensor("n")), (None, None));
    assert_eq!(params.tensor("scale"), Some(&[2.5][..]));
    assert_eq!(Params::from_safetensors(&params.to_safetensors().unwrap()).unwrap(), params);
    assert_eq!(Params::from_bytes(layout.clone(), &params.to_bytes()).unwrap(), params);
    let error = Params::new(layout.clone(), vec![1.0]).unwrap_err().to_string();
    assert_eq!(error, "0 integers for a layout of 3");
    let error = Params::with_integers(layout, vec![], vec![1, 2, 3]).unwrap_err().to_string();
    assert_eq!(error, "0 values for a layout of 1");
}

fn two() -> Params {
    let layout = Layout::new(vec![TensorSpec::new("w", [2, 2]), TensorSpec::new("b", [1])]).unwrap();
    Params::new(layout, vec![9.0, 1.0, 2.0, 3.0, 4.0]).unwrap()
}

#[test]
fn reads_what_it_writes() {
    let p = two();
    let file = p.to_safetensors().unwrap();
    assert_eq!(Params::from_safetensors(&file).unwrap(), p);
    assert_eq!(file, p.to_safetensors().unwrap());
    assert_eq!(Params::from_bytes(p.layout().clone(), &p.to_bytes()).unwrap(), p);
    assert_eq!(p.tensor("w"), Some(&[1.0, 2.0, 3.0, 4.0][..]));
    assert_eq!(p.tensor("x"), None);
}

#[test]
fn names_the_value_that_is_not_finite() {
    let mut p = two();
    assert_eq!(p.first_not_finite(), None);
    p.values_mut()[3] = f32::INFINITY;
    assert_eq!(p.first_not_finite(), Some(("w", 2, f32::INFINITY)));
}

#[test]
fn refuses_a_giant_header_before_parsing() {
    let mut file = u64::MAX.to_le_bytes().to_vec();
    file.extend([b' '; 64]);
    assert!(matches!(Params::from_safetensors(&file), Err(ParamsError::HeaderTooLong(u64::MAX))));
}

#[test]
fn refuses_other_types() {
    let data = [0u8; 8];
    let view = TensorView::new(FileDtype::F64, vec![1], &data).unwrap();
    let file = serialize([("x", view)], None).unwrap();
    let error = Params::from_safetensors(&file).unwrap_err();
    assert_eq!(error.to_string(), "tensor 'x' has type F64, only F32 and I64 are supported");
}

/// Tensors of either type, some empty, some 0-d.
fn any_params() -> impl Strategy<Value = Params> {
    let tensor = ("[a-c]{1,3}", proptest::collection::vec(0usize..4, 0..3), any::<bool>());
    proptest::collection::vec(tensor, 0..8).prop_map(|tensors| {
        let mut seen = std::collections::BTreeSet::new();
        let specs = tensors.into_iter().filter(|(name, ..)| seen.insert(name.clone())).map(
            |(name, shape, floats)| match floats {
                true => TensorSpec::new(name, shape),
                false => TensorSpec::integers(name, shape),
            },
        );
        numbered(specs.collect())
    })
}

proptest! {
    #[test]
    fn any_mix_of_types_is_written_as_the_library_writes_it(params in any_params()) {
        let file = params.to_safetensors().unwrap();
        prop_assert_eq!(&file, &library(&params));
        prop_assert_eq!(Params::from_safetensors(&file).unwrap(), params.clone());
        let again = Params::from_bytes(params.layout().clone(), &params.to_bytes()).unwrap();
        prop_assert_eq!(again, params);
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let _ = Params::from_safetensors(&bytes);
    }

    #[test]
    fn one_changed_byte_never_panics(at in 0usize..200, byte in any::<u8>()) {
        let mut file = two().to_safetensors().unwrap();
        let at = at % file.len();
        file[at] = byte;
        let _ = Params::from_safetensors(&file);
    }
}
