//! The committed miniatures of known architectures.

use super::super::{graph, observe::Observer, smooth};
use super::*;

fn folder(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models").join(name)
}

/// The inputs of a graph, a batch of one; other symbolic lengths stay symbolic.
fn inputs_of(proto: &ModelProto) -> Vec<InputSpec> {
    let graph = proto.graph.as_ref().unwrap();
    let spec = |input: &ValueInfoProto| {
        let Some(type_proto::Value::TensorType(tensor)) =
            input.r#type.as_ref().and_then(|t| t.value.clone())
        else {
            panic!("{} is no tensor", input.name);
        };
        let dims = tensor.shape.unwrap_or_default().dim;
        let shape = dims.iter().enumerate().map(|(axis, dim)| match &dim.value {
            Some(dimension::Value::DimValue(length)) => Dimension::Fixed(*length as usize),
            _ if axis == 0 => Dimension::Fixed(1),
            Some(dimension::Value::DimParam(_)) => Dimension::Symbolic("tokens".to_owned()),
            None => panic!("unknown dimension"),
        });
        let element = if tensor.elem_type == 1 { Element::Float } else { Element::Integer };
        InputSpec { name: input.name.clone(), element, shape: shape.collect() }
    };
    let names: Vec<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    graph.input.iter().filter(|i| !names.contains(&i.name.as_str())).map(spec).collect()
}

/// One set of inputs: tokens of the case, or random pixels.
fn sample(inputs: &[InputSpec], ids: &[i64], seed: u32) -> TVec<TValue> {
    let tensor = |(at, input): (usize, &InputSpec)| {
        let shape: Vec<usize> = (input.shape.iter())
            .map(|dim| match dim {
                Dimension::Fixed(length) => *length,
                Dimension::Symbolic(_) => ids.len(),
            })
            .collect();
        let count = shape.iter().product();
        match input.element {
            Element::Float => Tensor::from_shape(&shape, &noise(seed, count)),
            Element::Integer => {
                let token = |i: usize| match at {
                    0 => ids.get(i).copied().unwrap_or(0),
                    // An attention mask; segments.
                    1 => i64::from(i < ids.len()),
                    _ => 0,
                };
                Tensor::from_shape(&shape, &(0..count).map(token).collect::<Vec<i64>>())
            }
        }
    };
    inputs.iter().enumerate().map(|input| tensor(input).unwrap().into_tvalue()).collect()
}

/// Compares a tower in int8 with the same weights in `f32`; gives the report.
fn check(name: &str, kind: &str, smallest: f64) -> Report {
    let file = std::fs::read(folder(name).join(format!("{kind}.onnx"))).unwrap();
    let case = std::fs::read_to_string(folder(name).join("case.json")).unwrap();
    let case: serde_json::Value = serde_json::from_str(&case).unwrap();
    let output = case[kind]["output"].as_str().unwrap().to_owned();
    let ids: Vec<Vec<i64>> = serde_json::from_value(case["ids"].clone()).unwrap();
    let file = quantised(&file);
    let proto = onnx::decode(&file).unwrap();
    let inputs = inputs_of(&proto);
    let outputs = vec![output];
    let reference = float_plan(&proto, &inputs, &outputs).unwrap();
    let options = CompileOptions { inputs, outputs, pixels: None, machine: machine() };
    let compiled = compile(&file, &options).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    for (seed, ids) in ids.iter().take(3).enumerate() {
        let sample = || sample(&options.inputs, ids, seed as u32);
        let expected = values(&reference.run(sample()).unwrap()[0]);
        let found = values(&compiled.plan.run(sample()).unwrap()[0]);
        let similarity = cosine(&expected, &found);
        assert!(similarity > smallest, "{name} {kind}: {similarity}");
        let shared = pool.install(|| values(&compiled.plan.run(sample()).unwrap()[0]));
        assert_eq!(found, shared, "{name} {kind}: threads change the result");
    }
    compiled.report
}

fn count(report: &Report, kind: &str) -> usize {
    report.replaced.iter().find(|(name, _)| *name == kind).map_or(0, |(_, count)| *count)
}

fn transformer(name: &str, kind: &str) {
    let report = check(name, kind, 0.998);
    assert_eq!(report.dequantised, Vec::<String>::new(), "{name} {kind}");
    for part in ["attention", "layer norm", "linear"] {
        assert!(count(&report, part) > 0, "{name} {kind}: no {part} in {report:?}");
    }
}

#[test]
fn openai_clip() {
    transformer("vitb32", "image");
    transformer("vitb32", "text");
}

#[test]
fn tiny_clip() {
    transformer("tinyclip", "image");
    transformer("tinyclip", "text");
}

#[test]
fn siglip() {
    transformer("siglipb16", "image");
    transformer("siglipb16", "text");
}

#[test]
fn bert() {
    transformer("bert", "text");
    transformer("bertmask", "text");
}

#[test]
fn mobile_clip() {
    // Random weights and noise for a picture: errors grow over many convolutions.
    let report = check("mobileclip2s0", "image", 0.98);
    assert_eq!(report.dequantised, Vec::<String>::new());
    assert!(count(&report, "convolutional region") > 0, "{report:?}");
    transformer("mobileclip2s0", "text");
}

#[test]
fn layers_read_sixteen_bits_where_eight_lose_too_much() {
    let file = std::fs::read(folder("vitb32").join("image.onnx")).unwrap();
    let case = std::fs::read_to_string(folder("vitb32").join("case.json")).unwrap();
    let case: serde_json::Value = serde_json::from_str(&case).unwrap();
    let output = case["image"]["output"].as_str().unwrap().to_owned();
    let inputs = inputs_of(&onnx::decode(&file).unwrap());
    let quantised = |smallest_cosine: f64| {
        let mut samples = (0..6).map(|seed| sample(&inputs, &[], seed));
        let options = QuantiseOptions {
            inputs: inputs.clone(),
            outputs: vec![output.clone()],
            pixels: None,
            samples: Some(&mut samples),
            smallest_cosine,
            progress: &mut |_| {},
        };
        quantise(&file, options).unwrap()
    };
    let wide = |report: &QuantiseReport| report.layers.iter().filter(|layer| layer.wide).count();
    let (_, eight) = quantised(0.9);
    let reached = eight.mean_cosine.unwrap();
    assert_eq!(wide(&eight), 0);
    // A little more than eight bits keep.
    let (file, more) = quantised(reached + (1.0 - reached) / 50.0);
    assert!(wide(&more) > 0 && more.mean_cosine.unwrap() > reached, "{reached} {more:?}");
    let metadata = |file: &[u8]| onnx::decode(file).unwrap().metadata_props;
    assert!(metadata(&file).iter().any(|entry| entry.key == WIDE_KEY));
}

/// What a graph says on a sample, and how large the inputs of each layer get.
fn observe(
    proto: &ModelProto,
    output: &str,
    ids: &[i64],
) -> (Vec<f32>, Vec<graph::Candidate>, Observer) {
    let graph = proto.graph.as_ref().unwrap();
    let candidates = graph::candidates(graph);
    let (inputs, outputs) = (inputs_of(proto), vec![output.to_owned()]);
    let tensors = (&inputs[..], &outputs[..]);
    let mut observer = Observer::new(proto, graph, &candidates, tensors, Vec::new()).unwrap();
    let results = observer.run(sample(&inputs, ids, 1), false).unwrap();
    (values(&results[0]), candidates, observer)
}

#[test]
fn smoothing_evens_out_channels_and_changes_no_result() {
    for (name, kind, multiplications) in [("bert", "text", true), ("siglipb16", "text", false)] {
        let file = std::fs::read(folder(name).join(format!("{kind}.onnx"))).unwrap();
        let case = std::fs::read_to_string(folder(name).join("case.json")).unwrap();
        let case: serde_json::Value = serde_json::from_str(&case).unwrap();
        let output = case[kind]["output"].as_str().unwrap();
        let ids: Vec<Vec<i64>> = serde_json::from_value(case["ids"].clone()).unwrap();
        let mut proto = onnx::decode(&file).unwrap();
        graph::constants_to_initialisers(proto.graph.as_mut().unwrap());
        let (before, candidates, mut observer) = observe(&proto, output, &ids[0]);
        let count = proto.graph.as_ref().unwrap().node.len();
        let smoothed =
            smooth::smooth(proto.graph.as_mut().unwrap(), &candidates, &mut observer.probes);
        assert!(smoothed > 0, "{name}");
        let added = proto.graph.as_ref().unwrap().node.len() - count;
        assert_eq!(added > 0, multiplications, "{name}: {added} nodes were added");
        let (after, _, again) = observe(&proto, output, &ids[0]);
        let difference = before.iter().zip(&after).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        let size = before.iter().fold(0f32, |m, v| m.max(v.abs()));
        assert!(difference < 1e-3 * size, "{name}: {difference} of {size}");
        // What was computed of the new inputs is what is seen of them.
        for (computed, seen) in observer.probes.iter().zip(&again.probes) {
            let (Some(computed), Some(seen)) = (computed, seen) else { continue };
            let pairs = computed.moments[0]
                .largest()
                .unwrap()
                .iter()
                .zip(seen.moments[0].largest().unwrap());
            pairs.for_each(|(a, b)| assert!((a - b).abs() < 1e-3 + 0.01 * b, "{name}: {a} {b}"));
        }
    }
}
