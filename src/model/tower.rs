//! One modality's encoder: an ONNX graph run by tract.

use std::ops::Range;

use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::*;

use super::int8::{
    CompileOptions, Dimension, Element, InputSpec, Int8Error, Pixels, Plan, Report, attended,
    compile_releasing,
};
use crate::contained::contained;
use crate::kernel::{Machine, MachineError};
use crate::picture::{PixelGrid, Preprocess};

/// Why a tower cannot be built or run. Each variant names the graph's file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TowerError {
    /// The bytes are not an ONNX model.
    #[error("{file}: not a readable ONNX model (damaged or cut short): {reason}")]
    NotOnnx {
        /// The graph's file.
        file: String,
        /// What the decoder says.
        reason: String,
    },
    /// The graph cannot be used.
    #[error("{file}: {reason}")]
    Graph {
        /// The graph's file.
        file: String,
        /// The rule it breaks.
        reason: Int8Error,
    },
    /// The package declares no output of that kind.
    #[error("{file}: this model has no {what} output")]
    NoOutput {
        /// The graph's file.
        file: String,
        /// The kind of output.
        what: &'static str,
    },
    /// The kernels asked for do not exist here.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// An output has another size than `model.toml` says.
    #[error("{file}: output \"{output}\" holds {found} numbers where model.toml says {expected}")]
    Dimension {
        /// The graph's file.
        file: String,
        /// The output's name.
        output: String,
        /// Numbers found.
        found: usize,
        /// Numbers expected.
        expected: usize,
    },
    /// tract panicked on the graph.
    #[error(
        "{file}: the graph engine gave up on this graph: it is damaged, or not one that this build can run ({reason})"
    )]
    Panicked {
        /// The graph's file.
        file: String,
        /// What the panic said.
        reason: String,
    },
    /// Running the graph failed.
    #[error("{file}: running the graph failed: {reason}")]
    Run {
        /// The graph's file.
        file: String,
        /// The chain of reasons.
        reason: String,
    },
}

/// The shape of one input of a tower.
#[derive(Debug, Clone)]
pub enum InputShape {
    /// Normalised pixels, `f32 [1, 3, height, width]`.
    Pixels {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
        /// What is subtracted from each channel, on a scale from 0 to 1.
        mean: [f32; 3],
        /// What divides each channel after that.
        std: [f32; 3],
    },
    /// Tokens, `i64 [1, n]`: `Some(n)` where the length is fixed.
    Tokens(Option<usize>),
}

impl InputShape {
    /// The pixels that a package's preprocessing gives.
    pub fn of(preprocess: &Preprocess) -> Self {
        let (width, height) = preprocess.output_size();
        let spec = preprocess.spec();
        Self::Pixels {
            height: height as usize,
            width: width as usize,
            mean: spec.mean,
            std: spec.std,
        }
    }
}

/// What a tower is built from.
#[derive(Debug)]
pub struct TowerSpec {
    /// The graph's file, for messages.
    pub file: String,
    /// Input names and shapes, in the order in which [`Tower::run`] takes them.
    pub inputs: Vec<(String, InputShape)>,
    /// Output names, in the order in which [`Tower::run`] returns them. What only other outputs
    /// need is not computed.
    pub outputs: Vec<String>,
}

/// A graph ready to run; can be shared between threads.
#[derive(Debug, Clone)]
pub struct Tower {
    file: String,
    outputs: Vec<String>,
    plan: Plan,
    pixel_plan: Option<Plan>,
    report: Report,
}

/// One output of a run: its shape and its numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct TowerOutput {
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Values, row-major.
    pub values: Vec<f32>,
}

impl Tower {
    /// Builds a tower from the bytes of an ONNX file.
    ///
    /// # Errors
    /// [`TowerError`], naming `spec.file`.
    pub fn build(onnx: &[u8], spec: &TowerSpec) -> Result<Self, TowerError> {
        Self::build_releasing(onnx, spec, &|_| {})
    }

    /// Builds a tower as [`Tower::build`] does, on all threads of the rayon pool that it is called
    /// in, and says of each part of the file when it will hardly be read again.
    ///
    /// # Errors
    /// As for [`Tower::build`].
    pub fn build_releasing(
        onnx: &[u8],
        spec: &TowerSpec,
        release: &(dyn Fn(Range<usize>) + Sync),
    ) -> Result<Self, TowerError> {
        let options = CompileOptions {
            inputs: spec.inputs.iter().map(input_spec).collect(),
            outputs: spec.outputs.clone(),
            pixels: spec.inputs.first().and_then(|(_, shape)| pixels(shape)),
            machine: Machine::active().map_err(TowerError::Machine)?,
        };
        let compiled = contained(|| compile_releasing(onnx, &options, release))
            .map_err(|reason| TowerError::Panicked { file: spec.file.clone(), reason })?
            .map_err(|reason| TowerError::Graph { file: spec.file.clone(), reason })?;
        Ok(Self {
            file: spec.file.clone(),
            outputs: spec.outputs.clone(),
            plan: compiled.plan,
            pixel_plan: compiled.pixel_plan,
            report: compiled.report,
        })
    }

    /// Which parts of the graph run on int8 operators, and which on tract's.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Runs the graph on tensors in the order of `spec.inputs`.
    ///
    /// # Errors
    /// [`TowerError::Run`] when tract fails, for example on a shape that does not fit.
    pub fn run(&self, inputs: TVec<TValue>) -> Result<Vec<TowerOutput>, TowerError> {
        self.run_plan(&self.plan, inputs)
    }

    /// Runs an image tower on pixels of its size: straight from their bytes where the graph reads
    /// them by int8 convolutions, else normalised as `preprocess` says.
    ///
    /// # Errors
    /// As for [`Tower::run`].
    pub fn run_pixels(
        &self,
        pixels: &PixelGrid,
        preprocess: &Preprocess,
    ) -> Result<Vec<TowerOutput>, TowerError> {
        let (height, width) = (pixels.height() as usize, pixels.width() as usize);
        let whole = "a pixel grid holds three bytes a pixel";
        if let Some(plan) = &self.pixel_plan {
            let bytes = Tensor::from_shape(&[1, height, width, 3], pixels.bytes()).expect(whole);
            return self.run_plan(plan, tvec!(bytes.into()));
        }
        let values = preprocess.tensor(pixels);
        let tensor = Tensor::from_shape(&[1, 3, height, width], &values).expect(whole);
        self.run_plan(&self.plan, tvec!(tensor.into()))
    }

    fn run_plan(&self, plan: &Plan, inputs: TVec<TValue>) -> Result<Vec<TowerOutput>, TowerError> {
        let failed =
            |e: TractError| TowerError::Run { file: self.file.clone(), reason: format!("{e:#}") };
        let panicked = |reason| TowerError::Panicked { file: self.file.clone(), reason };
        let results =
            contained(|| attended(|| plan.run(inputs))).map_err(panicked)?.map_err(failed)?;
        results
            .iter()
            .map(|value| {
                let tensor = value.cast_to::<f32>().map_err(failed)?;
                let view = tensor.to_plain_array_view::<f32>().map_err(failed)?;
                Ok(TowerOutput {
                    shape: view.shape().to_vec(),
                    values: view.iter().copied().collect(),
                })
            })
            .collect()
    }

    /// The first output of a run, which must hold `dimension` numbers.
    ///
    /// # Errors
    /// [`TowerError::Dimension`].
    pub fn vector(
        &self,
        outputs: Vec<TowerOutput>,
        dimension: usize,
    ) -> Result<Vec<f32>, TowerError> {
        let first = outputs.into_iter().next();
        let values = first.map(|output| output.values).unwrap_or_default();
        if values.len() != dimension {
            return Err(TowerError::Dimension {
                file: self.file.clone(),
                output: self.outputs.first().cloned().unwrap_or_default(),
                found: values.len(),
                expected: dimension,
            });
        }
        Ok(values)
    }
}

pub(super) fn input_spec((name, shape): &(String, InputShape)) -> InputSpec {
    let fixed = Dimension::Fixed;
    let (element, shape) = match shape {
        InputShape::Pixels { height, width, .. } => {
            (Element::Float, vec![fixed(1), fixed(3), fixed(*height), fixed(*width)])
        }
        InputShape::Tokens(Some(length)) => (Element::Integer, vec![fixed(1), fixed(*length)]),
        InputShape::Tokens(None) => {
            (Element::Integer, vec![fixed(1), Dimension::Symbolic("tokens".to_owned())])
        }
    };
    InputSpec { name: name.clone(), element, shape }
}

pub(super) fn pixels(shape: &InputShape) -> Option<Pixels> {
    match shape {
        InputShape::Pixels { mean, std, .. } => {
            Some(Pixels { mean: mean.to_vec(), std: std.to_vec() })
        }
        InputShape::Tokens(_) => None,
    }
}

/// Decodes an ONNX file without running anything.
pub(super) fn decode(onnx: &[u8], file: &str) -> Result<ModelProto, TowerError> {
    let file = file.to_owned();
    super::int8::onnx::decode(onnx).map_err(|error| match error {
        Int8Error::NotOnnx { reason } => TowerError::NotOnnx { file, reason },
        reason => TowerError::Graph { file, reason },
    })
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use tract_onnx::pb::{
        AttributeProto, GraphProto, NodeProto, OperatorSetIdProto, TypeProto, ValueInfoProto,
        type_proto,
    };

    use super::*;

    /// A tower of one node.
    fn tower(node: NodeProto) -> Result<Tower, TowerError> {
        let tensor = type_proto::Tensor { elem_type: 7, ..Default::default() };
        let value = Some(type_proto::Value::TensorType(tensor));
        let r#type = Some(TypeProto { value, ..Default::default() });
        let value = |name: &str| ValueInfoProto {
            name: name.into(),
            r#type: r#type.clone(),
            ..Default::default()
        };
        let graph = GraphProto {
            node: vec![node],
            input: vec![value("x")],
            output: vec![value("y")],
            ..Default::default()
        };
        let opset = OperatorSetIdProto { version: 17, ..Default::default() };
        let (ir_version, opset_import, graph) = (8, vec![opset], Some(graph));
        let model = ModelProto { ir_version, opset_import, graph, ..Default::default() };
        let shape = InputShape::Tokens(Some(4));
        let (file, inputs) = ("image.onnx".to_owned(), vec![("x".to_owned(), shape)]);
        let spec = TowerSpec { file, inputs, outputs: vec!["y".to_owned()] };
        Tower::build(&model.encode_to_vec(), &spec)
    }

    fn node(operator: &str, inputs: &[&str]) -> NodeProto {
        NodeProto {
            op_type: operator.into(),
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec!["y".into()],
            ..Default::default()
        }
    }

    #[test]
    fn a_graph_that_tract_panics_on_is_an_error_of_its_file() {
        tower(node("Neg", &["x"])).unwrap_or_else(|e| panic!("{e}"));
        let error = tower(node("Transpose", &[])).unwrap_err();
        assert!(matches!(error, TowerError::Panicked { .. }), "{error}");
        assert!(error.to_string().starts_with("image.onnx: "), "{error}");
    }

    #[test]
    fn an_axis_that_tract_would_count_up_to_is_refused() {
        let axis =
            AttributeProto { name: "axis".into(), i: 1 << 60, r#type: 2, ..Default::default() };
        let node = NodeProto { attribute: vec![axis], ..node("LayerNormalization", &["x", "x"]) };
        let error = tower(node).unwrap_err();
        assert!(error.to_string().contains("axis 1152921504606846976"), "{error}");
    }
}
