use params::{Examples, Layout, Params, TensorSpec};

use crate::{
    Device, Flow, LocalSpec, Mode, ModelError, ModelSpec, Optimizer, Predictor, init, measure, train,
};

fn spec() -> ModelSpec {
    ModelSpec { arch: "softmax".into(), inputs: 2, hidden: vec![], outputs: 3 }
}

fn sgd() -> LocalSpec {
    LocalSpec { mode: Mode::Train, optimizer: Optimizer::Sgd { lr: 0.1, momentum: 0.9 }, epochs: 1, batch: 1 }
}

/// Both `train` and `measure` refuse the rows, with the same message.
fn refusal(features: &[f32], labels: &[u32], width: usize) -> String {
    let (spec, data) = (spec(), Examples::new(features, labels, width).unwrap());
    let params = init(&spec, 0).unwrap();
    let trained = train(&Device::Cpu, &spec, &params, data, &sgd(), 0, &mut |_| Flow::Continue);
    let measured = measure(&Device::Cpu, &spec, &params, data);
    let message = trained.unwrap_err().to_string();
    assert_eq!(message, measured.unwrap_err().to_string());
    message
}

fn setting(local: LocalSpec) -> String {
    let (spec, data) = (spec(), Examples::new(&[1.0, 2.0], &[0], 2).unwrap());
    let params = init(&spec, 0).unwrap();
    let trained = train(&Device::Cpu, &spec, &params, data, &local, 0, &mut |_| Flow::Continue);
    trained.unwrap_err().to_string()
}

#[test]
fn refuses_rows_that_do_not_fit() {
    assert_eq!(refusal(&[], &[], 2), "there are no rows, at least 1 is needed");
    assert_eq!(refusal(&[1.0], &[0], 1), "rows have 1 features, the model takes 2");
    assert_eq!(refusal(&[0.0; 4], &[2, 3], 2), "row 1 has class 3, the model has classes 0 to 2");
    assert_eq!(
        refusal(&[0.0, 1.0, 2.0, f32::NAN], &[0, 1], 2),
        "feature 1 of row 1 is NaN, features must be finite"
    );
}

#[test]
fn refuses_settings_out_of_bounds() {
    let with = |optimizer| setting(LocalSpec { optimizer, ..sgd() });
    let adam = |beta1, beta2, eps| with(Optimizer::Adam { lr: 0.1, beta1, beta2, eps });
    assert_eq!(setting(LocalSpec { epochs: 0, ..sgd() }), "epochs is 0, it must be at least 1");
    assert_eq!(setting(LocalSpec { batch: 0, ..sgd() }), "batch is 0, it must be at least 1");
    assert_eq!(with(Optimizer::GradientDescent { lr: 0.0 }), "lr is 0, it must be above 0");
    assert_eq!(with(Optimizer::GradientDescent { lr: f64::NAN }), "lr is NaN, it must be above 0");
    let momentum = with(Optimizer::Sgd { lr: 1.0, momentum: 1.0 });
    assert_eq!(momentum, "momentum is 1, it must be at least 0 and below 1");
    assert_eq!(adam(-0.1, 0.9, 1e-8), "beta1 is -0.1, it must be at least 0 and below 1");
    assert_eq!(adam(0.9, f64::INFINITY, 1e-8), "beta2 is inf, it must be at least 0 and below 1");
    assert_eq!(adam(0.9, 0.9, 0.0), "eps is 0, it must be above 0");
}

#[test]
fn gradient_mode_ignores_settings_it_does_not_use() {
    let optimizer = Optimizer::GradientDescent { lr: 0.0 };
    let local = LocalSpec { mode: Mode::Gradient, optimizer, epochs: 0, batch: 0 };
    let (spec, data) = (spec(), Examples::new(&[1.0, 2.0], &[0], 2).unwrap());
    let params = init(&spec, 0).unwrap();
    let trained = train(&Device::Cpu, &spec, &params, data, &local, 0, &mut |_| Flow::Continue).unwrap();
    // Zero weights: each class has probability 1/3, and the loss is ln 3.
    let third = 1.0 / 3.0;
    assert_eq!(
        trained.update,
        [third - 1.0, third, third, third - 1.0, 2.0 * (third - 1.0)]
            .into_iter()
            .chain([third, 2.0 * third, third, 2.0 * third])
            .map(|g: f64| g as f32)
            .collect::<Vec<_>>()
    );
    assert_eq!(trained.train_loss, 3f64.ln());
}

#[test]
fn refuses_weights_that_do_not_fit() {
    let layout = Layout::new(vec![TensorSpec::new("fc.bias", [3])]).unwrap();
    let error = Predictor::load(&Device::Cpu, &spec(), &Params::zeros(layout)).unwrap_err().to_string();
    assert!(
        error.starts_with("the weights do not fit architecture 'softmax': tensor 'fc.weight'"),
        "{error}"
    );
    let mut params = init(&spec(), 0).unwrap();
    params.values_mut()[4] = f32::NAN;
    let error = Predictor::load(&Device::Cpu, &spec(), &params).unwrap_err().to_string();
    assert_eq!(error, "weight 1 of tensor 'fc.weight' is NaN, weights must be finite");
}

#[test]
fn refuses_questions_that_do_not_fit() {
    let predictor = Predictor::load(&Device::Cpu, &spec(), &init(&spec(), 0).unwrap()).unwrap();
    let refusal = |features: &[f32], rows| predictor.predict(features, rows).unwrap_err().to_string();
    assert_eq!(refusal(&[1.0], 1), "1 values do not fill 1 rows of 2 features");
    assert_eq!(
        refusal(&[1.0; 2], usize::MAX),
        format!("2 values do not fill {} rows of 2 features", usize::MAX)
    );
    assert_eq!(
        refusal(&[1.0, 1.0, f32::INFINITY, 1.0], 2),
        "feature 0 of row 1 is inf, features must be finite"
    );
    assert!(predictor.predict(&[], 0).unwrap().is_empty());
    assert_eq!(predictor.predict(&[5.0; 4], 2).unwrap(), [1f32 / 3.0; 6]);
    assert_eq!((predictor.inputs(), predictor.outputs()), (2, 3));
}

#[test]
fn outputs_that_overflow_are_errors() {
    let mut params = init(&spec(), 0).unwrap();
    params.values_mut().fill(f32::MAX);
    let data = Examples::new(&[f32::MAX; 2], &[0], 2).unwrap();
    let gradient = LocalSpec { mode: Mode::Gradient, ..sgd() };
    let overflow = |error: ModelError| assert!(matches!(error, ModelError::LossNotFinite { .. }), "{error}");
    overflow(measure(&Device::Cpu, &spec(), &params, data).unwrap_err());
    overflow(train(&Device::Cpu, &spec(), &params, data, &gradient, 0, &mut |_| Flow::Continue).unwrap_err());
    let predictor = Predictor::load(&Device::Cpu, &spec(), &params).unwrap();
    let error = predictor.predict(&[0.0, 0.0, f32::MAX, f32::MAX], 2).unwrap_err();
    assert!(matches!(error, ModelError::OutputNotFinite { row: 1 }), "{error}");
}
