//! Graphs that nobody exports, with shapes that no kernel takes: what tract makes of them is right,
//! be it an answer or an error.

use super::convolutions::Network;
use super::*;

const SIDES: [i64; 2] = [6, 8];

/// Compiles a graph of pixels and runs it on noise. Where both this and tract's own `f32` plan give an
/// answer, they agree.
fn compiled(file: &[u8], output: &str) -> Result<Report, String> {
    let shape = [1, 3, SIDES[0] as usize, SIDES[1] as usize];
    let inputs = vec![InputSpec {
        name: "pixels".to_owned(),
        element: Element::Float,
        shape: shape.map(Dimension::Fixed).to_vec(),
    }];
    let outputs = vec![output.to_owned()];
    let sample = || -> TVec<TValue> {
        let values = noise(7, shape.iter().product());
        tvec!(Tensor::from_shape(&shape, &values).unwrap().into_tvalue())
    };
    let float = float_plan(&onnx::decode(file).unwrap(), &inputs, &outputs);
    let expected = float.and_then(|plan| plan.run(sample()));
    let options = CompileOptions { inputs, outputs, pixels: None, machine: machine() };
    let compiled = compile(file, &options).map_err(|e| e.to_string())?;
    let found = compiled.plan.run(sample()).map_err(|e| format!("{e:#}"))?;
    if let Ok(expected) = expected {
        let (expected, found) = (values(&expected[0]), values(&found[0]));
        assert_eq!(expected.len(), found.len());
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 0.05 || a.is_nan();
        assert!(expected.iter().zip(&found).all(near), "{expected:?} {found:?}");
    }
    Ok(compiled.report)
}

/// Attention whose heads are parts of the pixels' rows: `size` columns of queries and keys, `keys`
/// rows, `value_size` columns of values.
fn attention(size: i64, keys: i64, value_size: i64) -> Vec<u8> {
    let mut network = Network::new(SIDES[0], SIDES[1]);
    network.integers("start", &[0, 0]);
    network.integers("axes", &[2, 3]);
    for (name, ends) in [("q", [6, size]), ("k", [keys, size]), ("v", [keys, value_size])] {
        let end = format!("{name}.end");
        network.integers(&end, &ends);
        network.node("Slice", &["pixels", "start", &end, "axes"], name, &[]);
    }
    network.node("Transpose", &["k"], "turned", &[("perm", &[0, 1, 3, 2])]);
    network.node("MatMul", &["q", "turned"], "scores", &[]);
    network.node("Softmax", &["scores"], "weights", &[("axis", &[-1])]);
    network.node("MatMul", &["weights", "v"], "result", &[]);
    network.file(&["result"])
}

#[test]
fn heads_without_elements_do_no_harm() {
    let report = compiled(&attention(8, 6, 8), "result").unwrap();
    assert!(report.replaced.iter().any(|(kind, _)| *kind == "attention"), "{report:?}");
    for size in [0, 8] {
        for keys in [0, 6] {
            for value_size in [0, 8] {
                let _ = compiled(&attention(size, keys, value_size), "result");
            }
        }
    }
}

#[test]
fn a_kernel_larger_than_its_picture_does_no_harm() {
    for pads in [[0; 4], [0, 0, 1, 1]] {
        for stride in [1, 3] {
            let mut network = Network::new(SIDES[0], SIDES[1]);
            network.convolution(("pixels", "a"), (3, 512, 1), (9, stride, pads), true);
            let _ = compiled(&quantised(&network.file(&["a"])), "a");
        }
    }
}

#[test]
fn pictures_of_several_batches_in_one_region_keep_to_tract() {
    let mut network = Network::new(SIDES[0], SIDES[1]);
    network.node("Concat", &["pixels", "pixels"], "two", &[("axis", &[0])]);
    network.convolution(("pixels", "a"), (3, 64, 1), (3, 1, [1; 4]), true);
    network.convolution(("a", "c"), (64, 64, 1), (1, 1, [0; 4]), false);
    network.convolution(("two", "b"), (3, 64, 1), (3, 1, [1; 4]), true);
    network.node("Add", &["c", "b"], "sum", &[]);
    network.node("ReduceMean", &["sum"], "mean", &[("axes", &[2, 3])]);
    let file = quantised(&network.file(&["mean"]));
    compiled(&file, "mean").unwrap();
}

#[test]
fn a_graph_that_tract_panics_on_is_an_error_of_the_quantiser() {
    let mut network = Network::new(SIDES[0], SIDES[1]);
    network.node("Transpose", &[], "turned", &[]);
    network.convolution(("turned", "a"), (3, 64, 1), (3, 1, [1; 4]), true);
    let mut samples =
        std::iter::once(tvec!(Tensor::zero::<f32>(&[1, 3, 6, 8]).unwrap().into_tvalue()));
    let options = QuantiseOptions {
        inputs: vec![InputSpec {
            name: "pixels".to_owned(),
            element: Element::Float,
            shape: [1, 3, 6, 8].map(Dimension::Fixed).to_vec(),
        }],
        outputs: vec!["a".to_owned()],
        pixels: None,
        samples: Some(&mut samples),
        smallest_cosine: 0.0,
        progress: &mut |_| {},
    };
    let error = quantise(&network.file(&["a"]), options).unwrap_err();
    assert!(matches!(error, QuantiseError::Panicked { .. }), "{error}");
}
