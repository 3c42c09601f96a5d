//! Where each box of the picture is, in pixels. Columns are as wide as a box; a column's boxes
//! spread over the height of the fullest one.

use super::{Graph, Layer};

/// A box's width; some 26 characters of the picture's font.
pub const BOX_WIDTH: u32 = 220;
/// A line of text.
pub const LINE: u32 = 17;
/// Between a box's edge and its text.
pub const PAD: u32 = 9;
/// Between two boxes.
const GAP: u32 = 14;
/// Between two columns: room for the lines.
const AISLE: u32 = 110;
/// Around the picture.
pub const MARGIN: u32 = 24;
/// Over the boxes: the columns' heads.
pub const HEAD: u32 = 40;
/// Below: the legend.
const FOOT: u32 = 44;

/// A box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub x: u32,
    pub y: u32,
    pub height: u32,
}

/// The places of a graph's nodes, and the picture's size.
#[derive(Debug)]
pub struct Layout {
    pub places: Vec<Place>,
    pub width: u32,
    pub height: u32,
    /// The columns there are, with where they begin.
    pub columns: Vec<(Layer, u32)>,
}

const LAYERS: [Layer; 5] = [
    Layer::Port,
    Layer::Bridge,
    Layer::Svi,
    Layer::Vrf,
    Layer::Vtep,
];

/// Lays a graph out.
pub fn layout(graph: &Graph) -> Layout {
    let heights: Vec<u32> = (0..graph.nodes.len()).map(|it| height(graph, it)).collect();
    let layers = LAYERS.map(|layer| (layer, graph.layer(layer)));
    let full = |nodes: &[usize]| nodes.iter().map(|it| heights[*it] + GAP).sum::<u32>();
    let tallest = layers.iter().map(|(_, nodes)| full(nodes)).max();
    let tallest = tallest.unwrap_or_default().max(LINE + GAP);

    let mut places = vec![
        Place {
            x: 0,
            y: 0,
            height: 0
        };
        graph.nodes.len()
    ];
    let mut columns = Vec::new();
    let mut x = MARGIN;
    for (layer, nodes) in &layers {
        if nodes.is_empty() {
            continue;
        }
        let wishes: Vec<u32> = match layer {
            Layer::Svi | Layer::Vrf => nodes
                .iter()
                .map(|it| beside_neighbours(graph, *it, &places, heights[*it]))
                .collect(),
            Layer::Port | Layer::Bridge => spread(nodes, &heights, tallest),
            // No line leads there, so they stand together at the top.
            Layer::Vtep => vec![MARGIN + HEAD; nodes.len()],
        };
        let bottom = MARGIN + HEAD + tallest;
        for (node, y) in nodes.iter().zip(settle(nodes, &wishes, &heights, bottom)) {
            places[*node] = Place {
                x,
                y,
                height: heights[*node],
            };
        }
        columns.push((*layer, x));
        x += BOX_WIDTH + AISLE;
    }
    let right = columns.last().map_or(MARGIN, |(_, x)| x + BOX_WIDTH);
    Layout {
        places,
        width: right.max(3 * BOX_WIDTH) + MARGIN,
        height: MARGIN + HEAD + tallest + FOOT,
        columns,
    }
}

fn height(graph: &Graph, node: usize) -> u32 {
    let node = &graph.nodes[node];
    let vteps = usize::from(!node.vteps.is_empty());
    let lines = u32::try_from(1 + node.facts.len() + vteps).unwrap_or(u32::MAX / LINE / 2);
    lines * LINE + 2 * PAD
}

/// Evenly over the height.
fn spread(nodes: &[usize], heights: &[u32], tallest: u32) -> Vec<u32> {
    let count = u32::try_from(nodes.len()).unwrap_or(u32::MAX).max(1);
    let taken: u32 = nodes.iter().map(|it| heights[*it] + GAP).sum();
    let spare = tallest.saturating_sub(taken) / count;
    let mut y = MARGIN + HEAD + spare / 2;
    nodes
        .iter()
        .map(|it| {
            let here = y;
            y += heights[*it] + GAP + spare;
            here
        })
        .collect()
}

/// Level with the mean of the boxes on the left that a line comes from.
fn beside_neighbours(graph: &Graph, node: usize, places: &[Place], height: u32) -> u32 {
    let left = graph.edges.iter().filter(|(_, to)| *to == node);
    let middles = left.filter_map(|(from, _)| {
        let place = places.get(*from)?;
        (graph.nodes[*from].layer < graph.nodes[node].layer).then_some(place.y + place.height / 2)
    });
    let (count, sum) = middles.fold((0, 0), |(count, sum), middle| (count + 1, sum + middle));
    let middle = u32::checked_div(sum, count).unwrap_or(MARGIN + HEAD);
    middle.saturating_sub(height / 2).max(MARGIN + HEAD)
}

/// Where the boxes of a column go: as near to the wished places as is possible without an overlap.
/// First each goes below the one before, in the order of the wishes. Then, from the last one up,
/// what has been pushed below the bottom is moved up.
fn settle(nodes: &[usize], wishes: &[u32], heights: &[u32], bottom: u32) -> Vec<u32> {
    let mut order: Vec<usize> = (0..nodes.len()).collect();
    order.sort_by_key(|it| wishes[*it]);
    let mut settled = wishes.to_vec();
    let mut free = MARGIN + HEAD;
    for it in &order {
        settled[*it] = settled[*it].max(free);
        free = settled[*it] + heights[nodes[*it]] + GAP;
    }
    let mut limit = bottom;
    for it in order.iter().rev() {
        let height = heights[nodes[*it]];
        settled[*it] = settled[*it].min(limit.saturating_sub(height + GAP));
        limit = settled[*it];
    }
    settled
}
