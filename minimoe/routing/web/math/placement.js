// Placement of experts on devices, and the load of the busiest device relative to the mean.
//
//   contiguousPlacement(E, devices) -> [[{expert, share}]]         device d holds experts d E/D .. (d+1) E/D - 1, each whole (share 1)
//   balancedPlacement(loads, devices, replicas = 0) -> same shape   after EPLB (deepseek-ai/EPLB, rebalance_experts, one group):
//                                                                  replicate the busiest experts, then assign each replica, heaviest first,
//                                                                  to the least loaded device with a free slot
//   deviceLoads(placement, loads) -> Float64Array(devices)         tokens x slots per device; replicas share an expert's load
//   imbalance(deviceLoad) -> number                                max / mean; 1 is even; the busiest device determines the layer's time

/** Consecutive ids per device; if E is not a multiple of `devices`, the first devices hold one more. */
export function contiguousPlacement(E, devices) {
  const cut = (d) => Math.ceil((d * E) / devices);
  return Array.from({ length: devices }, (_, d) =>
    Array.from({ length: cut(d + 1) - cut(d) }, (_, i) => ({ expert: cut(d) + i, share: 1 })),
  );
}

/** Greedy packing of experts and replicas of the busiest ones, with the same number of slots on each device. */
export function balancedPlacement(loads, devices, replicas = 0) {
  const copies = new Int32Array(loads.length).fill(1);
  for (let extra = 0; extra < replicas; extra++) {
    let busiest = 0;
    for (let e = 1; e < loads.length; e++) if (loads[e] / copies[e] > loads[busiest] / copies[busiest]) busiest = e;
    copies[busiest]++;
  }
  const expertCopies = [];
  copies.forEach((count, expert) => {
    for (let i = 0; i < count; i++) expertCopies.push({ expert, share: 1 / count });
  });
  expertCopies.sort((a, b) => loads[b.expert] * b.share - loads[a.expert] * a.share || a.expert - b.expert);
  const capacity = Array.from(
    { length: devices },
    (_, d) => Math.floor(expertCopies.length / devices) + (d < expertCopies.length % devices ? 1 : 0),
  );
  const placement = Array.from({ length: devices }, () => []);
  const load = new Float64Array(devices);
  for (const expertCopy of expertCopies) {
    const alreadyOn = (d) => Number(placement[d].some((other) => other.expert === expertCopy.expert)); // a replica helps only on another device
    let chosen = -1;
    for (let d = 0; d < devices; d++) {
      if (placement[d].length >= capacity[d]) continue;
      const better =
        chosen < 0 || alreadyOn(d) - alreadyOn(chosen) || load[d] - load[chosen] || placement[d].length - placement[chosen].length;
      if (chosen < 0 || better < 0) chosen = d;
    }
    placement[chosen].push(expertCopy);
    load[chosen] += loads[expertCopy.expert] * expertCopy.share;
  }
  return placement;
}

/** Load of each device. */
export function deviceLoads(placement, loads) {
  return Float64Array.from(placement, (expertCopies) => expertCopies.reduce((sum, expertCopy) => sum + loads[expertCopy.expert] * expertCopy.share, 0));
}

/** Load of the busiest device divided by the mean. */
export function imbalance(deviceLoad) {
  const total = deviceLoad.reduce((sum, load) => sum + load, 0);
  return total ? (Math.max(...deviceLoad) * deviceLoad.length) / total : NaN;
}
