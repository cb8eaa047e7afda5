//! Little networks of convolutions, good and damaged.

use super::*;

/// A little network in the style of the Lite towers.
pub(super) struct Network {
    graph: GraphProto,
    seed: u32,
}

impl Network {
    pub fn new(height: i64, width: i64) -> Self {
        let dim = |length: i64| tract_onnx::pb::tensor_shape_proto::Dimension {
            value: Some(dimension::Value::DimValue(length)),
            ..Default::default()
        };
        let shape =
            tract_onnx::pb::TensorShapeProto { dim: [1, 3, height, width].map(dim).to_vec() };
        let tensor = type_proto::Tensor { elem_type: 1, shape: Some(shape) };
        let value = Some(type_proto::Value::TensorType(tensor));
        let input = ValueInfoProto {
            name: "pixels".to_owned(),
            r#type: Some(tract_onnx::pb::TypeProto { value, ..Default::default() }),
            ..Default::default()
        };
        let mut network =
            Self { graph: GraphProto { input: vec![input], ..Default::default() }, seed: 1 };
        network.constant("zero", &[], &[0.0]);
        network.constant("six", &[], &[6.0]);
        network
    }

    pub fn constant(&mut self, name: &str, dims: &[i64], values: &[f32]) {
        self.graph.initializer.push(TensorProto {
            name: name.to_owned(),
            data_type: 1,
            dims: dims.to_vec(),
            raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            ..Default::default()
        });
    }

    pub fn integers(&mut self, name: &str, values: &[i64]) {
        self.graph.initializer.push(TensorProto {
            name: name.to_owned(),
            data_type: 7,
            dims: vec![values.len() as i64],
            raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            ..Default::default()
        });
    }

    pub fn node(&mut self, op: &str, inputs: &[&str], output: &str, ints: &[(&str, &[i64])]) {
        let attribute = |(name, values): &(&str, &[i64])| AttributeProto {
            name: (*name).to_owned(),
            r#type: if ["group", "axis", "keepdims"].contains(name) { 2 } else { 7 },
            i: values[0],
            ints: values.to_vec(),
            ..Default::default()
        };
        self.graph.node.push(NodeProto {
            op_type: op.to_owned(),
            name: format!("{op} {output}"),
            input: inputs.iter().map(|i| (*i).to_owned()).collect(),
            output: vec![output.to_owned()],
            attribute: ints.iter().map(attribute).collect(),
            ..Default::default()
        });
    }

    /// A convolution with random weights, and ReLU6 if asked for.
    pub fn convolution(
        &mut self,
        (input, output): (&str, &str),
        (from, to, group): (i64, i64, i64),
        (kernel, stride, pads): (i64, i64, [i64; 4]),
        relu6: bool,
    ) {
        self.seed += 1;
        let per_output = from / group * kernel * kernel;
        let (weight, bias) = (format!("{output}.weight"), format!("{output}.bias"));
        let scale = (3.0 / per_output as f32).sqrt();
        let weights: Vec<f32> =
            noise(self.seed, (to * per_output) as usize).iter().map(|w| w * scale).collect();
        self.constant(&weight, &[to, from / group, kernel, kernel], &weights);
        self.constant(&bias, &[to], &noise(self.seed + 1000, to as usize));
        let raw = format!("{output}.raw");
        self.node(
            "Conv",
            &[input, &weight, &bias],
            if relu6 { &raw } else { output },
            &[
                ("kernel_shape", &[kernel, kernel]),
                ("strides", &[stride, stride]),
                ("pads", &pads),
                ("group", &[group]),
            ],
        );
        if relu6 {
            self.node("Clip", &[&raw, "zero", "six"], output, &[]);
        }
    }

    pub fn file(mut self, outputs: &[&str]) -> Vec<u8> {
        self.graph.output = outputs
            .iter()
            .map(|name| ValueInfoProto { name: (*name).to_owned(), ..Default::default() })
            .collect();
        let opset = OperatorSetIdProto { version: 17, ..Default::default() };
        let proto = ModelProto {
            ir_version: 8,
            opset_import: vec![opset],
            graph: Some(self.graph),
            ..Default::default()
        };
        prost::Message::encode_to_vec(&proto)
    }
}

/// Inverted bottlenecks with strides, kernels of 3 and 5, a residual, and a head on the mean.
fn lite(height: i64, width: i64) -> Vec<u8> {
    let mut n = Network::new(height, width);
    n.convolution(("pixels", "stem"), (3, 16, 1), (3, 2, [0, 0, 1, 1]), true);
    n.convolution(("stem", "d0"), (16, 16, 16), (3, 1, [1; 4]), true);
    n.convolution(("d0", "p0"), (16, 12, 1), (1, 1, [0; 4]), false);
    n.convolution(("p0", "e1"), (12, 40, 1), (1, 1, [0; 4]), true);
    n.convolution(("e1", "d1"), (40, 40, 40), (5, 2, [2; 4]), true);
    n.convolution(("d1", "p1"), (40, 20, 1), (1, 1, [0; 4]), false);
    n.convolution(("p1", "e2"), (20, 72, 1), (1, 1, [0; 4]), true);
    n.convolution(("e2", "d2"), (72, 72, 72), (3, 1, [1; 4]), true);
    n.convolution(("d2", "p2"), (72, 20, 1), (1, 1, [0; 4]), false);
    n.node("Add", &["p2", "p1"], "sum", &[]);
    n.convolution(("sum", "features"), (20, 64, 1), (1, 1, [0; 4]), true);
    n.node("GlobalAveragePool", &["features"], "pooled", &[]);
    n.convolution(("pooled", "head"), (64, 24, 1), (1, 1, [0; 4]), false);
    n.convolution(("features", "map"), (64, 24, 1), (1, 1, [0; 4]), false);
    n.file(&["head", "map"])
}

fn input(height: usize, width: usize) -> Vec<InputSpec> {
    let shape = [1, 3, height, width].map(Dimension::Fixed).to_vec();
    vec![InputSpec { name: "pixels".to_owned(), element: Element::Float, shape }]
}

fn pixels() -> Pixels {
    Pixels { mean: vec![0.48, 0.45, 0.4], std: vec![0.27, 0.26, 0.28] }
}

/// A picture with a gradient and noise, as bytes and as the graph takes it.
fn picture(seed: u32, height: usize, width: usize) -> (Tensor, Tensor) {
    let bytes: Vec<u8> = noise(seed, height * width * 3)
        .iter()
        .enumerate()
        .map(|(i, v)| (100.0 + 60.0 * v + 60.0 * (i as f32 / 400.0 + seed as f32).sin()) as u8)
        .collect();
    let planes: Vec<f32> = (0..3)
        .flat_map(|c| bytes.iter().skip(c).step_by(3).map(move |b| pixels().value(*b, c)))
        .collect();
    (
        Tensor::from_shape(&[1, height, width, 3], &bytes).unwrap(),
        Tensor::from_shape(&[1, 3, height, width], &planes).unwrap(),
    )
}

fn calibrated(file: &[u8], height: usize, width: usize) -> (Vec<u8>, f64) {
    let mut samples = (0..24).map(|seed| tvec!(picture(seed, height, width).1.into_tvalue()));
    let options = QuantiseOptions {
        inputs: input(height, width),
        outputs: vec!["head".to_owned()],
        pixels: Some(pixels()),
        samples: Some(&mut samples),
        smallest_cosine: 0.999,
        progress: &mut |_| {},
    };
    let (file, report) = quantise(file, options).unwrap();
    assert!(report.layers.iter().all(|l| l.stored == Stored::Int8 && l.error < 0.03));
    (file, report.smallest_cosine.unwrap())
}

#[test]
fn a_calibrated_network_is_close_to_the_original_at_odd_sizes() {
    for (height, width) in [(33, 47), (64, 50)] {
        let original = lite(height as i64, width as i64);
        let (file, smallest) = calibrated(&original, height, width);
        assert!(smallest > 0.995, "{smallest}");
        let outputs = vec!["head".to_owned(), "map".to_owned()];
        let proto = onnx::decode(&original).unwrap();
        let reference = float_plan(&proto, &input(height, width), &outputs).unwrap();
        let options = CompileOptions {
            inputs: input(height, width),
            outputs,
            pixels: Some(pixels()),
            machine: machine(),
        };
        let compiled = compile(&file, &options).unwrap();
        assert_eq!(compiled.report.replaced, [("convolutional region", 1)]);
        let pixel_plan = compiled.pixel_plan.unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        for seed in 100..104 {
            let (bytes, floats) = picture(seed, height, width);
            let input = || tvec!(floats.clone().into_tvalue());
            let expected = reference.run(input()).unwrap();
            let found = compiled.plan.run(input()).unwrap();
            let from_bytes = pixel_plan.run(tvec!(bytes.into_tvalue())).unwrap();
            let shared = pool.install(|| compiled.plan.run(input()).unwrap());
            for slot in 0..2 {
                let found = values(&found[slot]);
                assert_eq!(found, values(&from_bytes[slot]), "bytes change the result");
                assert_eq!(found, values(&shared[slot]), "threads change the result");
                let similarity = cosine(&values(&expected[slot]), &found);
                assert!(similarity > 0.99, "output {slot}: {similarity}");
            }
        }
    }
}

#[test]
fn all_machines_agree() {
    let (file, _) = calibrated(&lite(33, 47), 33, 47);
    let floats = picture(5, 33, 47).1;
    let mut results = Machine::available().into_iter().map(|machine| {
        let options = CompileOptions {
            inputs: input(33, 47),
            outputs: vec!["head".to_owned()],
            pixels: Some(pixels()),
            machine,
        };
        let compiled = compile(&file, &options).unwrap();
        values(&compiled.plan.run(tvec!(floats.clone().into_tvalue())).unwrap()[0])
    });
    let scalar = results.next().unwrap();
    for other in results {
        assert!(cosine(&scalar, &other) > 0.9999);
    }
}

#[test]
fn a_network_without_ranges_runs_too() {
    let original = lite(40, 40);
    let file = quantised(&original);
    let proto = onnx::decode(&file).unwrap();
    let outputs = vec!["head".to_owned()];
    let reference = float_plan(&proto, &input(40, 40), &outputs).unwrap();
    let options =
        CompileOptions { inputs: input(40, 40), outputs, pixels: None, machine: machine() };
    let compiled = compile(&file, &options).unwrap();
    assert!(compiled.pixel_plan.is_none());
    let input = || tvec!(picture(3, 40, 40).1.into_tvalue());
    let expected = values(&reference.run(input()).unwrap()[0]);
    let found = values(&compiled.plan.run(input()).unwrap()[0]);
    assert!(cosine(&expected, &found) > 0.99);
}

#[test]
fn what_is_not_known_stays_on_tract() {
    let mut n = Network::new(20, 20);
    n.convolution(("pixels", "a"), (3, 8, 1), (3, 1, [1; 4]), true);
    n.node("Sin", &["a"], "sine", &[]);
    n.convolution(("sine", "b"), (8, 8, 1), (3, 1, [1; 4]), false);
    n.node("Add", &["b", "a"], "sum", &[]);
    n.node("Cos", &["sum"], "out", &[]);
    let file = quantised(&n.file(&["out"]));
    let outputs = vec!["out".to_owned()];
    let reference = float_plan(&onnx::decode(&file).unwrap(), &input(20, 20), &outputs).unwrap();
    let options =
        CompileOptions { inputs: input(20, 20), outputs, pixels: None, machine: machine() };
    let compiled = compile(&file, &options).unwrap();
    assert_eq!(compiled.report.on_tract.len(), 2, "{:?}", compiled.report);
    let input = || tvec!(picture(3, 20, 20).1.into_tvalue());
    let expected = values(&reference.run(input()).unwrap()[0]);
    let found = values(&compiled.plan.run(input()).unwrap()[0]);
    assert!(cosine(&expected, &found) > 0.99);
}

#[test]
fn damage_is_named() {
    let options = CompileOptions {
        inputs: input(40, 40),
        outputs: vec!["head".to_owned()],
        pixels: None,
        machine: machine(),
    };
    let file = quantised(&lite(40, 40));
    let broken = |change: &dyn Fn(&mut GraphProto)| {
        let mut proto = onnx::decode(&file).unwrap();
        change(proto.graph.as_mut().unwrap());
        compile(&prost::Message::encode_to_vec(&proto), &options).map(|_| ())
    };
    fn part<'g>(graph: &'g mut GraphProto, name: &str) -> &'g mut TensorProto {
        graph.initializer.iter_mut().find(|t| t.name == name).unwrap()
    }
    let scale = |value: f32| {
        broken(&|graph: &mut GraphProto| {
            part(graph, "e2.weight.scale").raw_data[..4].copy_from_slice(&value.to_le_bytes());
        })
    };
    for value in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert!(matches!(scale(value), Err(Int8Error::Scale { index: 0, .. })), "{value}");
    }
    let short = broken(&|graph| {
        part(graph, "e2.weight.int8").raw_data.pop();
    });
    assert!(matches!(short, Err(Int8Error::Payload { expected: 1440, found: 1439, .. })));
    let fewer = broken(&|graph| {
        let scales = part(graph, "e2.weight.scale");
        scales.raw_data.truncate(4 * 70);
        scales.dims = vec![70];
    });
    assert!(matches!(fewer, Err(Int8Error::ScaleCount { expected: 72, found: 70, .. })));
    let shape = broken(&|graph| part(graph, "e2.weight.int8").dims[0] = -72);
    assert!(matches!(shape, Err(Int8Error::Shape { .. })));
    assert!(matches!(compile(b"\xff\xff", &options), Err(Int8Error::NotOnnx { .. })));
    assert!(matches!(compile(b"", &options), Err(Int8Error::NoGraph)));
    let other = CompileOptions { outputs: vec!["tail".to_owned()], ..options.clone() };
    let missing = compile(&file, &other).map(|_| ());
    assert!(matches!(missing, Err(Int8Error::NoSuchTensor { what: "output", .. })));
    for length in (0..file.len()).step_by(97) {
        let _ = compile(&file[..length], &options);
    }
}

#[test]
fn the_quantiser_refuses_what_it_should() {
    let attempt = |file: &[u8]| {
        let options = QuantiseOptions {
            inputs: Vec::new(),
            outputs: Vec::new(),
            pixels: None,
            samples: None,
            smallest_cosine: 0.999,
            progress: &mut |_| {},
        };
        quantise(file, options).map(|_| ())
    };
    let original = lite(40, 40);
    let twice = attempt(&quantised(&original));
    assert!(matches!(twice, Err(QuantiseError::AlreadyQuantised)));
    assert!(matches!(attempt(b"\xff"), Err(QuantiseError::Graph(_))));
    let mut proto = onnx::decode(&original).unwrap();
    let graph = proto.graph.as_mut().unwrap();
    let weight = graph.initializer.iter_mut().find(|t| t.name == "p1.weight").unwrap();
    weight.raw_data[8..12].copy_from_slice(&f32::NAN.to_le_bytes());
    let damaged = attempt(&prost::Message::encode_to_vec(&proto));
    assert!(matches!(damaged, Err(QuantiseError::NotFinite { index: 2, .. })));
    let mut empty = Network::new(8, 8);
    empty.node("Relu", &["pixels"], "out", &[]);
    assert!(matches!(attempt(&empty.file(&["out"])), Err(QuantiseError::NothingToQuantise)));
}

#[test]
fn pixels_normalised_by_channel_are_read_exactly() {
    let (height, width) = (6, 10);
    let mut network = Network::new(height, width);
    network.convolution(("pixels", "patches"), (3, 128, 1), (2, 2, [0; 4]), false);
    let file = quantised(&network.file(&["patches"]));
    let shape = [1, 3, height as usize, width as usize];
    let inputs = vec![InputSpec {
        name: "pixels".to_owned(),
        element: Element::Float,
        shape: shape.map(Dimension::Fixed).to_vec(),
    }];
    let outputs = vec!["patches".to_owned()];
    let pixels = Pixels { mean: vec![0.48, 0.46, 0.41], std: vec![0.269, 0.261, 0.276] };
    let bytes: Vec<u8> = noise(5, 180).iter().map(|v| (127.5 + 127.5 * v) as u8).collect();
    let planes: Vec<f32> = (0..180)
        .map(|at| (at / 60, at % 60))
        .map(|(channel, pixel)| pixels.value(bytes[pixel * 3 + channel], channel))
        .collect();
    let planes = || tvec!(Tensor::from_shape(&shape, &planes).unwrap().into_tvalue());
    let exact = float_plan(&onnx::decode(&file).unwrap(), &inputs, &outputs).unwrap();
    let exact = values(&exact.run(planes()).unwrap()[0]);
    for machine in Machine::available() {
        let (inputs, outputs) = (inputs.clone(), outputs.clone());
        let options = CompileOptions { inputs, outputs, pixels: Some(pixels.clone()), machine };
        let compiled = compile(&file, &options).unwrap();
        let plain = Tensor::from_shape(&[1, shape[2], shape[3], 3], &bytes).unwrap();
        let from_bytes = compiled.pixel_plan.unwrap().run(tvec!(plain.into_tvalue())).unwrap();
        let from_floats = compiled.plan.run(planes()).unwrap();
        for found in [values(&from_bytes[0]), values(&from_floats[0])] {
            let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-5;
            assert!(exact.iter().zip(&found).all(near), "{machine}");
            assert_eq!(found.len(), exact.len());
        }
    }
}
