"""Statistics of routing, each with its definition, its source, its chance value and its minimum sample size.

Pure functions of `experts` (layer, token, slot) int64 and labels (token), without plotting. Three rules apply
throughout: the chance value is rarely 0; tokens of one document are not independent, so whole documents are resampled
and permuted; a search among many experts is judged by q-values. Expert ids are meaningful only within their layer.
"""

from minimoe.routing.statistics.agreement import router_agreement, router_saturation
from minimoe.routing.statistics.beyond_chance import beyond_chance, count_band, design_effect
from minimoe.routing.statistics.chance import (
    Estimate,
    benjamini_hochberg,
    expected_maximum,
    frequency_chance,
    overlap_chance,
    overlap_distribution,
    pmi_chance,
)
from minimoe.routing.statistics.counting import DocumentCounts, document_counts, group_counts, selection_counts
from minimoe.routing.statistics.domains import (
    Distance,
    Specialisation,
    domain_distance,
    domain_specialisation,
    jensen_shannon,
    specialisation_score,
)
from minimoe.routing.statistics.information import context_information, token_information
from minimoe.routing.statistics.load import (
    coefficient_of_variation,
    effective_experts,
    fold_over_uniform,
    frequency,
    load_entropy,
    lorenz,
    max_violation,
)
from minimoe.routing.statistics.locality import Locality, locality
from minimoe.routing.statistics.matched import MatchedTokens, matched_tokens
from minimoe.routing.statistics.pairs import Pairs, coactivation, expected_pairs, pmi, seriate
from minimoe.routing.statistics.paths import Transitions, transition_lift
from minimoe.routing.statistics.placement import Placement, balanced_placement, contiguous_placement
from minimoe.routing.statistics.vocabulary import (
    ExpertPreferences,
    Preferences,
    expert_preferences,
    token_preferences,
    vocabulary_specialisation,
)

__all__ = [
    "Distance",
    "DocumentCounts",
    "Estimate",
    "ExpertPreferences",
    "Locality",
    "MatchedTokens",
    "Pairs",
    "Placement",
    "Preferences",
    "Specialisation",
    "Transitions",
    "balanced_placement",
    "benjamini_hochberg",
    "beyond_chance",
    "coactivation",
    "coefficient_of_variation",
    "context_information",
    "contiguous_placement",
    "count_band",
    "design_effect",
    "document_counts",
    "domain_distance",
    "domain_specialisation",
    "effective_experts",
    "expected_maximum",
    "expected_pairs",
    "expert_preferences",
    "fold_over_uniform",
    "frequency",
    "frequency_chance",
    "group_counts",
    "jensen_shannon",
    "load_entropy",
    "locality",
    "lorenz",
    "matched_tokens",
    "max_violation",
    "overlap_chance",
    "overlap_distribution",
    "pmi",
    "pmi_chance",
    "router_agreement",
    "router_saturation",
    "selection_counts",
    "seriate",
    "specialisation_score",
    "token_information",
    "token_preferences",
    "transition_lift",
    "vocabulary_specialisation",
]
