//! What a region runs: layers over pictures stored channels last.

use crate::kernel::{
    Activation, Convolution, Depthwise, DepthwiseFloat, Linear, Machine, Quantisation,
    Requantisation, Window,
};

use super::draft::Size;

/// How a picture is held in memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Form {
    /// 32-bit floats.
    Floats,
    /// Bytes with a quantisation known beforehand.
    Bytes(Quantisation),
    /// Bytes whose quantisation is chosen when their values are known.
    MeasuredBytes,
}

/// A picture that the program reads or makes.
#[derive(Debug, Clone)]
pub(super) struct Picture {
    pub size: Size,
    pub form: Form,
}

/// Position of a picture in [`Program::pictures`].
pub(super) type PictureId = usize;

/// A layer that can compute any rows of its result from some rows of its input.
#[derive(Debug)]
pub(super) struct Layer {
    pub operation: Operation,
    pub input: PictureId,
    pub residual: Option<PictureId>,
    pub output: PictureId,
}

#[derive(Debug)]
pub(super) enum Operation {
    /// Bytes to bytes; the residual is bytes too.
    Convolution { kernel: Convolution, plan: Requantisation },
    /// Bytes to bytes.
    Depthwise { kernel: Depthwise, plan: Requantisation },
    /// Bytes to floats; the residual is floats.
    ConvolutionToFloats { kernel: Convolution, activation: Activation },
    /// Bytes to floats.
    DepthwiseToFloats { kernel: Depthwise, activation: Activation },
    /// Floats to floats with a 1×1 kernel; every pixel is quantised with its own range.
    Pointwise { kernel: Linear, activation: Activation },
    /// Floats to floats.
    DepthwiseFloats { kernel: DepthwiseFloat, activation: Activation },
}

impl Operation {
    /// The window over the input.
    pub fn window(&self) -> Window {
        match self {
            Operation::Convolution { kernel, .. }
            | Operation::ConvolutionToFloats { kernel, .. } => kernel.window(),
            Operation::Depthwise { kernel, .. } | Operation::DepthwiseToFloats { kernel, .. } => {
                kernel.window()
            }
            Operation::Pointwise { .. } => Window::square(1, 1, 0),
            Operation::DepthwiseFloats { kernel, .. } => kernel.window(),
        }
    }
}

/// One step of a program.
#[derive(Debug)]
pub(super) enum Step {
    /// Layers that each are read by the next one only: run a few rows at a time.
    Chain(Vec<Layer>),
    /// The same picture in another form.
    Convert { from: PictureId, to: PictureId },
    /// The sum of two pictures of floats.
    Add { a: PictureId, b: PictureId, activation: Activation, output: PictureId },
    /// A picture of floats times one number per channel.
    Scale { picture: PictureId, factors: PictureId, activation: Activation, output: PictureId },
    /// The mean over all pixels, as floats.
    GlobalAverage { input: PictureId, output: PictureId },
    /// Every channel `multiplier` times, side by side.
    RepeatChannels { input: PictureId, multiplier: usize, output: PictureId },
    /// One channel of a picture of bytes.
    Plane { input: PictureId, channel: usize, output: PictureId },
}

/// A region, ready to run on one picture after another.
#[derive(Debug)]
pub(super) struct Program {
    pub machine: Machine,
    pub pictures: Vec<Picture>,
    pub steps: Vec<Step>,
    /// The pictures that the region's inputs become.
    pub inputs: Vec<PictureId>,
    /// The one of them that holds the bytes of pixels as they are.
    pub pixels: Option<PictureId>,
    /// The pictures that are the region's outputs.
    pub outputs: Vec<PictureId>,
    /// The last step that reads each picture; outputs are kept to the end.
    pub last_use: Vec<usize>,
}

impl Step {
    /// The pictures a step reads.
    pub fn reads(&self) -> Vec<PictureId> {
        match self {
            Step::Chain(layers) => {
                let residuals = layers.iter().filter_map(|layer| layer.residual);
                layers.first().map(|layer| layer.input).into_iter().chain(residuals).collect()
            }
            Step::Convert { from, .. } => vec![*from],
            Step::Add { a, b, .. } => vec![*a, *b],
            Step::Scale { picture, factors, .. } => vec![*picture, *factors],
            Step::GlobalAverage { input, .. }
            | Step::RepeatChannels { input, .. }
            | Step::Plane { input, .. } => vec![*input],
        }
    }

    /// The picture a step makes for later steps.
    pub fn writes(&self) -> PictureId {
        match self {
            Step::Chain(layers) => layers.last().map_or(0, |layer| layer.output),
            Step::Convert { to, .. } => *to,
            Step::Add { output, .. }
            | Step::Scale { output, .. }
            | Step::GlobalAverage { output, .. }
            | Step::RepeatChannels { output, .. }
            | Step::Plane { output, .. } => *output,
        }
    }
}

impl Program {
    /// Works out when pictures are read last.
    pub fn new(
        machine: Machine,
        pictures: Vec<Picture>,
        steps: Vec<Step>,
        (inputs, pixels): (Vec<PictureId>, Option<PictureId>),
        outputs: Vec<PictureId>,
    ) -> Self {
        let mut last_use = vec![0; pictures.len()];
        for (at, step) in steps.iter().enumerate() {
            last_use[step.writes()] = at;
            step.reads().into_iter().for_each(|picture| last_use[picture] = at);
        }
        outputs.iter().for_each(|picture| last_use[*picture] = steps.len());
        Self { machine, pictures, steps, inputs, pixels, outputs, last_use }
    }
}

/// Joins layers into chains where a picture is read by the next layer only.
pub(super) fn chain(steps: Vec<Step>, pictures: &[Picture], outputs: &[PictureId]) -> Vec<Step> {
    let mut readers = vec![0; pictures.len()];
    for picture in steps.iter().flat_map(Step::reads).chain(outputs.iter().copied()) {
        readers[picture] += 1;
    }
    let mut joined: Vec<Step> = Vec::new();
    for step in steps {
        let Step::Chain(mut layers) = step else {
            joined.push(step);
            continue;
        };
        let input = layers[0].input;
        let before = joined.iter().position(|step| match step {
            Step::Chain(chain) => {
                chain.last().is_some_and(|last| last.output == input)
                    && readers[input] == 1
                    && !is_full(chain, &layers[0], pictures)
            }
            _ => false,
        });
        match before.map(|at| joined.remove(at)) {
            // The chain moves behind steps that came after it: none of them reads what it makes.
            Some(Step::Chain(mut chain)) => {
                chain.append(&mut layers);
                joined.push(Step::Chain(chain));
            }
            _ => joined.push(Step::Chain(layers)),
        }
    }
    joined
}

/// Whether a chain should end rather than take another layer: once it has a kernel wider than a pixel
/// that looks at rows of the chain, it ends where the next layer widens the picture. So the
/// largest pictures lie inside chains and the smallest between them.
fn is_full(chain: &[Layer], next: &Layer, pictures: &[Picture]) -> bool {
    let looks_around = |layer: &Layer| layer.operation.window().kernel != [1, 1];
    let elements = |picture: PictureId| pictures[picture].size.elements();
    chain[1..].iter().any(looks_around)
        && (elements(next.output) > elements(next.input) || looks_around(next))
}
