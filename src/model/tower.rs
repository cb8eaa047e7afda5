//! One modality's encoder: an ONNX graph run by tract.

use std::sync::Arc;

use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::plan::SimplePlan;

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
    /// The graph has no input or output of a name that `model.toml` gives.
    #[error("{file}: the graph has no {what} named \"{name}\"; it has {present}")]
    NoSuchTensor {
        /// The graph's file.
        file: String,
        /// `input` or `output`.
        what: &'static str,
        /// The name asked for.
        name: String,
        /// The names it has.
        present: String,
    },
    /// tract cannot run the graph.
    #[error("{file}: tract cannot prepare this graph: {reason}")]
    Unsupported {
        /// The graph's file.
        file: String,
        /// The chain of reasons.
        reason: String,
    },
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
    },
    /// Tokens, `i64 [1, n]`: `Some(n)` where the length is fixed.
    Tokens(Option<usize>),
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
    input_types: Vec<DatumType>,
    plan: Arc<Plan>,
}

type Plan = SimplePlan<TypedFact, Box<dyn TypedOp>>;

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
        let file = &spec.file;
        let proto = decode(onnx, file)?;
        check_names(&proto, spec)?;
        let (input_types, plan) = prepare(&proto, spec).map_err(|e| TowerError::Unsupported {
            file: file.clone(),
            reason: format!("{e:#}"),
        })?;
        Ok(Self { file: file.clone(), outputs: spec.outputs.clone(), input_types, plan })
    }

    /// Runs the graph on tensors in the order of `spec.inputs`.
    ///
    /// # Errors
    /// [`TowerError::Run`] when tract fails, for example on a shape that does not fit.
    pub fn run(&self, inputs: TVec<TValue>) -> Result<Vec<TowerOutput>, TowerError> {
        let failed = |e: TractError| TowerError::Run {
            file: self.file.clone(),
            reason: format!("{e:#}"),
        };
        let cast = inputs.iter().zip(&self.input_types).map(|(input, datum_type)| {
            Ok(input.cast_to_dt(*datum_type)?.into_owned().into_tvalue())
        });
        let inputs = cast.collect::<TractResult<TVec<TValue>>>().map_err(failed)?;
        let results = self.plan.run(inputs).map_err(failed)?;
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

    /// Runs the graph and gives its first output, which must hold `dimension` numbers.
    ///
    /// # Errors
    /// [`TowerError::Run`] or [`TowerError::Dimension`].
    pub fn run_vector(
        &self,
        inputs: TVec<TValue>,
        dimension: usize,
    ) -> Result<Vec<f32>, TowerError> {
        let first = self.run(inputs)?.into_iter().next();
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

/// Decodes an ONNX file without running anything.
pub(crate) fn decode(onnx: &[u8], file: &str) -> Result<ModelProto, TowerError> {
    let not_onnx = |reason: String| TowerError::NotOnnx { file: file.to_owned(), reason };
    let proto = tract_onnx::onnx()
        .proto_model_for_read(&mut &*onnx)
        .map_err(|e| not_onnx(format!("{e:#}")))?;
    match &proto.graph {
        Some(graph) if !graph.node.is_empty() => Ok(proto),
        _ => Err(not_onnx("it holds no graph".to_owned())),
    }
}

fn check_names(proto: &ModelProto, spec: &TowerSpec) -> Result<(), TowerError> {
    let graph = proto.graph.as_ref().expect("decode() refuses models without a graph");
    let inputs: Vec<&str> = graph.input.iter().map(|i| i.name.as_str()).collect();
    let outputs: Vec<&str> = graph.output.iter().map(|o| o.name.as_str()).collect();
    let check = |what, name: &str, present: &[&str]| {
        if present.contains(&name) {
            return Ok(());
        }
        Err(TowerError::NoSuchTensor {
            file: spec.file.clone(),
            what,
            name: name.to_owned(),
            present: present.join(", "),
        })
    };
    spec.inputs.iter().try_for_each(|(name, _)| check("input", name, &inputs))?;
    spec.outputs.iter().try_for_each(|name| check("output", name, &outputs))
}

fn prepare(
    proto: &ModelProto,
    spec: &TowerSpec,
) -> TractResult<(Vec<DatumType>, Arc<Plan>)> {
    let onnx = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
    let parsed = onnx.parse(proto, None)?;
    let mut model = parsed.model;
    let outlet = |name: &str| {
        let found = parsed.outlets_by_name.get(name).copied();
        found.ok_or_else(|| TractError::msg(format!("no tensor {name}")))
    };
    let inputs = spec.inputs.iter().map(|(n, _)| outlet(n)).collect::<TractResult<Vec<_>>>()?;
    let outputs = spec.outputs.iter().map(|n| outlet(n)).collect::<TractResult<Vec<_>>>()?;
    model.set_input_outlets(&inputs)?;
    model.select_output_outlets(&outputs)?;
    let tokens = model.symbols.sym("tokens");
    let mut input_types = Vec::new();
    for (slot, (_, shape)) in spec.inputs.iter().enumerate() {
        let declared = model.input_fact(slot)?.datum_type();
        let (default, dims): (DatumType, TVec<TDim>) = match shape {
            InputShape::Pixels { height, width } => (
                f32::datum_type(),
                tvec!(1.to_dim(), 3.to_dim(), height.to_dim(), width.to_dim()),
            ),
            InputShape::Tokens(Some(length)) => {
                (i64::datum_type(), tvec!(1.to_dim(), length.to_dim()))
            }
            InputShape::Tokens(None) => {
                (i64::datum_type(), tvec!(1.to_dim(), tokens.clone().to_dim()))
            }
        };
        let datum_type = declared.unwrap_or(default);
        model.set_input_fact(slot, InferenceFact::dt_shape(datum_type, dims))?;
        input_types.push(datum_type);
    }
    let plan = model.into_typed()?.into_decluttered()?.into_optimized()?.into_runnable()?;
    Ok((input_types, plan))
}
