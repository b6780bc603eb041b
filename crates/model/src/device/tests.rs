use super::*;

#[test]
fn reads_what_it_writes() {
    for (text, choice) in
        [("auto", DeviceChoice::Auto), ("cpu", DeviceChoice::Cpu), ("cuda:3", DeviceChoice::Cuda(3))]
    {
        assert_eq!(text.parse::<DeviceChoice>(), Ok(choice));
        assert_eq!(choice.to_string(), text);
    }
    assert_eq!("cuda:127".parse(), Ok(Device::Cuda(127)));
    assert_eq!("cpu".parse(), Ok(Device::Cpu));
    assert_eq!(Device::Cuda(0).to_string(), "cuda:0");
    assert!("auto".parse::<Device>().is_err());
}

#[test]
fn refuses_other_texts_and_says_what_works() {
    for text in ["", "gpu", "cuda", "cuda:", "cuda:-1", "cuda:+1", "cuda:01", "cuda:128", "CPU", "cpu "] {
        let error = text.parse::<DeviceChoice>().unwrap_err().to_string();
        let expected = format!("device '{text}' is not known, use auto, cpu or cuda:N (for instance cuda:0)");
        assert_eq!(error, expected);
    }
}

#[test]
fn the_cpu_is_always_there() {
    let hardware = open_device(DeviceChoice::Cpu, 1).unwrap();
    assert_eq!((hardware.device, hardware.description.as_str()), (Device::Cpu, "cpu, 1 thread"));
    for threads in [0, THREADS_MAX + 1] {
        let error = open_device(DeviceChoice::Cpu, threads).unwrap_err();
        assert_eq!(error.to_string(), format!("{threads} threads, 1 to 1024 are possible"));
    }
}

#[test]
fn auto_says_what_it_took() {
    let hardware = open_device(DeviceChoice::Auto, 1).unwrap();
    match hardware.device {
        Device::Cpu => {
            let note = hardware.notes.last().unwrap();
            assert!(note.contains("takes the cpu") || note.contains("without libtorch"), "{note}");
        }
        Device::Cuda(index) => assert_eq!(index, 0),
    }
}

#[test]
fn an_absent_gpu_is_an_error_with_a_way_out() {
    // No host has 128 GPUs; on one that has none, cuda:0 fails in the same way.
    let error = open_device(DeviceChoice::Cuda(127), 1).unwrap_err().to_string();
    assert!(error.starts_with("cuda:127 ") && error.ends_with("use --device cpu"), "{error}");
    if open_device(DeviceChoice::Auto, 1).unwrap().device == Device::Cpu {
        let error = open_device(DeviceChoice::Cuda(0), 1).unwrap_err().to_string();
        assert!(error.starts_with("cuda:0 ") && error.ends_with("use --device cpu"), "{error}");
    }
}
