"""Every known trap in attention, its gradients and its training, and the tests that show that npattn avoids it.

`TRAPS` lists each trap in words, with the tests, file::test, that fail if the code has the mistake. Traps that no other
file tests have their tests here.
"""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

from npattn import Adam, clip_gradients
from support.transformer_toys import SRC, TGT, toy_model

TESTS = Path(__file__).parents[1]

TRAPS: dict[str, dict[str, tuple[str, ...]]] = {
    "masks and softmax": {
        "a row that may attend to nothing gives NaN or uniform weights": (
            "layers/test_softmax::test_a_row_that_may_attend_to_nothing",
            "attention/test_attention_masks::test_a_row_that_may_attend_to_nothing",
            "attention/test_tiled_attention::test_dead_rows_are_exactly_zero_and_silent",
        ),
        "−inf − (−inf) in the max-subtraction; (1-mask) * -inf = 0·inf": (
            "layers/test_softmax::test_scores_of_minus_infinity",
            "attention/test_dot_product::test_a_bias_of_minus_infinity_is_a_mask",
            "layers/test_softmax::test_an_all_true_mask_equals_no_mask_bit_for_bit",
            "attention/test_attention_masks::test_an_all_true_mask_equals_no_mask_bit_for_bit",
        ),
        "a finite −1e9 can be out-learned and leaks": (
            "layers/test_softmax::test_a_masked_score_cannot_be_out_learned",
            "attention/test_attention_masks::test_what_is_masked_changes_nothing",
        ),
        "0/1 or float masks silently added": (
            "layers/test_softmax::test_bad_masks",
            "attention/test_attention_masks::test_bad_masks",
            "attention/test_dot_product::test_bad_masks_beside_causal_order",
            "attention/test_dot_product::test_the_gradient_of_a_bias_is_summed_over_its_broadcast_axes",
        ),
        "polarity differs between libraries": ("attention/test_attention_masks::test_polarity",),
        "a (B, N_X) padding mask read as (N_Q, N_X) when B == N_Q": (
            "attention/test_attention_masks::test_a_padding_mask_read_as_queries_times_keys",
            "attention/test_masks::test_padding_mask_of_lengths",
        ),
        "causal mask when N_Q ≠ N_X: top-left or bottom-right": (
            "attention/test_masks::test_causal_mask",
            "attention/test_masks::test_causal_mask_with_the_keys_of_a_cache",
            "attention/test_dot_product::test_causal_is_aligned_at_the_top_left",
        ),
        "causal ∩ padding makes dead rows": (
            "attention/test_attention_masks::test_causal_and_padding_make_dead_rows",
            "attention/test_masks::test_masks_combine",
        ),
        "huge scores ±1e4 … 1e300": (
            "attention/test_dot_product::test_huge_scores",
            "layers/test_softmax::test_huge_scores",
            "layers/test_cross_entropy::test_huge_scores",
            "layers/test_cross_entropy::test_the_largest_scores",
            "attention/test_tiled_attention::test_huge_scores",
        ),
        "NaN or inf in an input": (
            "layers/test_softmax::test_nan_and_infinity_in_an_input",
            "attention/test_dot_product::test_nan_stays_where_it_came_from",
            "layers/test_cross_entropy::test_a_class_that_is_ruled_out",
            "layers/test_activations::test_relu_keeps_nan",
            "contracts/test_wrong_calls::test_nan_in_nan_out",
            "contracts/test_wrong_calls::test_infinity_is_a_limit_or_shows",
        ),
        "empty axes (B = 0, N_Q = 0, N_X = 0)": (
            "attention/test_dot_product::test_empty_axes",
            "layers/test_softmax::test_empty_axes",
            "layers/test_linear::test_empty_axes",
            "layers/test_layer_norm::test_empty_axes",
            "attention/test_tiled_attention::test_no_keys_give_zero",
            "transformer/test_model::TestForward::test_empty_axes",
        ),
    },
    "shapes": {
        "head split by reshape without transpose": (
            "attention/test_heads::test_split_and_merge_are_inverse",
            "attention/test_heads::test_v7_is_a_loop_over_heads",
        ),
        "silent broadcasting of a wrong shape": (
            "internal/test_shapes::test_silent_broadcasting_of_a_wrong_shape",
            "internal/test_shapes::test_every_argument_is_checked",
        ),
        "non-contiguous, Fortran-ordered, negative-stride, read-only inputs and cotangents": (
            "contracts/test_purity::test_any_layout_in_memory",
            "contracts/test_purity::test_purity",
            "contracts/test_every_pair::test_gradients_of_any_array",
            "attention/test_tiled_attention::test_views_and_read_only_arrays_are_read_and_left_alone",
        ),
        "weights averaged over heads, or asking for them changes the answer": (
            "attention/test_heads::test_weights_are_always_per_head",
        ),
        "self-attention: dQ + dK + dV all flow into one X": (
            "attention/test_heads::test_self_attention",
            "attention/test_ladder::test_v6_is_v5_with_queries_from_the_input",
            "attention/test_ladder::test_v7_with_one_head_is_v6",
        ),
        "b_K shifts every score of a query alike: its gradient is zero in mathematics and noise in numbers": (
            "attention/test_heads::test_the_bias_of_the_keys_has_no_gradient",
            "layers/test_softmax::test_a_shift_of_the_scores_changes_nothing",
            "gradcheck/test_methods::test_gradient_that_is_zero_in_mathematics_and_noise_in_numbers",
            "cli/test_check_command::test_parameters_of_the_transformer_are_checked_by_name",
        ),
        "tied embedding: three uses, three gradients added; Adam and the clip norm count it once": (
            "layers/test_embedding::test_tied_embedding",
            "transformer/test_transformer_gradients::TestComposition::test_a_tied_embedding_gets_the_sum_of_its_uses",
            "contracts/test_traps::test_a_tied_embedding_counts_once",
        ),
    },
    "layers": {
        "LayerNorm variance as E[x²] − μ² fails for rows near 1e8": (
            "layers/test_layer_norm::test_a_row_far_from_zero",
        ),
        "constant row": ("layers/test_layer_norm::test_a_constant_row",),
        "γ placed outside the sums in backward: exact at γ = 1, wrong elsewhere": (
            "layers/test_layer_norm::test_gamma_stands_inside_the_sums",
            "gradcheck/test_check_gradients::test_gamma_outside_the_sums_of_layer_norm",
        ),
        "softmax backward divided by the batch, or without the row sum": (
            "gradcheck/test_check_gradients::test_divided_by_batch",
            "gradcheck/test_check_gradients::test_no_row_sum_in_the_softmax_backward",
            "contracts/test_gradients::test_planted_bugs_are_caught",
        ),
        "relu'(0)": (
            "layers/test_activations::test_relu_at_zero",
            "gradcheck/test_methods::test_relu_at_zero",
        ),
        "dropout: one shared mask, 1/(1−p) at evaluation, p = 1": (
            "layers/test_dropout::test_own_mask_in_every_call",
            "layers/test_dropout::test_identity_without_a_generator",
            "layers/test_dropout::test_p_must_be_a_probability_below_one",
            "transformer/test_model::TestDropout::test_every_place_has_a_mask_of_its_own",
        ),
        "embedding backward dW[ids] += d loses repeats": (
            "layers/test_embedding::test_every_repeat_counts",
            "layers/test_embedding::test_an_id_out_of_range",
            "layers/test_embedding::test_ids_that_are_no_integers",
            "gradcheck/test_check_gradients::test_lost_repeats_of_an_embedding",
        ),
        "float32 .sum(0) over 2²⁵ ones = 16,777,216": (
            "layers/test_linear::test_a_sum_of_more_ones_than_float32_can_count",
            "layers/test_linear::test_every_bias_gradient_takes_that_sum",
        ),
        "np.sqrt(64) times float32 = float64": (
            "contracts/test_purity::test_float32_in_float32_out",
            "contracts/test_purity::test_numpy_scalars_promote_nothing",
            "transformer/test_model::TestPurity::test_dtype_in_is_dtype_out",
            "gradcheck/test_contract::test_float32_argument_whose_gradient_is_float64",
        ),
    },
    "loss, optimiser, schedule, decoding": {
        "pads in the mean of the loss": (
            "layers/test_cross_entropy::test_pads_are_ignored",
            "layers/test_cross_entropy::test_no_real_token_at_all",
            "transformer/test_model::TestForward::test_more_pads_change_nothing",
            "transformer/test_model::TestForward::test_no_real_token_gives_loss_0",
            "training/test_trainer::TestShards::test_shards_weigh_as_much_as_their_real_tokens",
        ),
        "label smoothing: ε/V, ε/(V−2) or ε/(V−1)": (
            "layers/test_cross_entropy::test_definition",
            "layers/test_cross_entropy::test_the_definitions_of_smoothing_differ",
        ),
        "smoothing computed from probabilities: 0·log 0": (
            "layers/test_cross_entropy::test_a_certain_answer_keeps_its_digits",
        ),
        "Adam ε inside the root, bias-correction t": (
            "optim/test_adam::test_epsilon_stands_outside_the_root_and_t_starts_at_1",
            "optim/test_adam::test_three_steps_like_pytorch",
        ),
        "warm-up that starts at step 0 gives rate 0": (
            "optim/test_rates::test_refuse_steps_and_warmups_out_of_range",
            "optim/test_rates::test_up_to_the_peak_and_down_to_zero",
        ),
        "clipping: norm of 1e200 entries overflows to inf and zeroes everything; NaN spreads": (
            "optim/test_clipping::test_numbers_whose_squares_leave_the_range",
            "optim/test_clipping::test_a_norm_beyond_all_numbers",
            "optim/test_clipping::test_names_a_gradient_that_is_not_finite",
            "optim/test_clipping::test_at_the_limit_nothing_changes",
        ),
        "cloned layers start identical; packed QKV has the wrong fan": (
            "transformer/test_model::TestInitialParameters::test_matrices_are_fresh_draws",
            "transformer/test_model::TestInitialParameters::test_distributions",
        ),
        "scores computed with the gold history": (
            "decoding/test_search::TestGreedy::test_takes_the_best_token_at_every_step",
            "runs/test_prediction::test_greedy",
            "runs/test_run::test_validates_on_the_first_items",
        ),
        "a row alone ≠ that row in a batch, to the last bit, and 1 ≠ 2 BLAS threads": (
            "training/test_trainer::TestDropout::test_the_same_seed_and_workers_give_the_same_bits",
            "attention/test_attention_masks::test_a_padded_batch_equals_its_members_one_by_one",
            "transformer/test_model::TestForward::test_a_padded_batch_equals_its_members",
        ),
    },
    "attention of today's models": {
        "rotary positions pair neighbours or halves": (
            "layers/test_rotary::test_definition",
            "attention/test_modern_ladder::test_both_pairings_give_the_same_with_columns_in_another_order",
            "contracts/test_modern_golden::test_a_version",
        ),
        "grouped heads repeat, never tile": (
            "attention/test_modern_ladder::test_v10_is_v9_with_repeated_keys_and_values",
            "attention/test_modern_ladder::test_groups_are_a_view_of_neighbouring_heads",
        ),
        "keys and values of groups are copied for every head": (
            "attention/test_modern_ladder::test_keys_and_values_are_never_repeated",
        ),
        "the causal order of a cache is aligned at the top left": (
            "attention/test_modern_ladder::test_offset_moves_the_diagonal",
            "attention/test_modern_ladder::test_pieces_are_the_whole",
        ),
        "the pieces of a sequence lose the gradients of the past": (
            "attention/test_modern_ladder::test_pieces_are_the_whole",
            "attention/test_modern_ladder::test_without_the_gradients_of_the_past_the_pieces_are_wrong",
        ),
        "YaRN's factor is on the scores once, or its ramp is rounded": (
            "attention/test_modern_ladder::test_a_factor_is_squared_in_the_scores",
            "layers/test_rotary::test_yarn_by_hand",
            "contracts/test_modern_golden::test_rotary_frequencies",
        ),
        "rotary angles in float32 are wrong far out": (
            "layers/test_rotary::test_angles_are_exact_at_positions_far_out",
        ),
        "ALiBi's slopes for a number of heads that is no power of two": (
            "layers/test_modern_activations::test_slopes",
        ),
    },
    "complex-step differentiation": {
        "silently wrong: abs, var, std, linalg.norm, vdot, conj, sign(z)*z": (
            "gradcheck/test_methods::test_right_derivative_of_an_unsafe_forward_passes",
            "gradcheck/test_methods::test_wrong_derivative_of_an_unsafe_forward_is_caught",
            "gradcheck/test_methods::test_derivative_dropped_by_the_complex_step_and_by_backward_alike",
        ),
        "a float buffer or astype drops the derivative with only a ComplexWarning": (
            "gradcheck/test_methods::test_reasons_for_the_fallback",
            "contracts/test_traps::test_a_dropped_imaginary_part_is_an_error_in_tests",
        ),
        "at exact kinks the sign of the imaginary part decides": (
            "gradcheck/test_methods::test_relu_at_zero",
            "gradcheck/test_methods::test_tie_of_max",
        ),
        "what other checkers miss: off by 5e-4 or 1e-7, a loss scaled by 1e-6, one element off by 0.1 %": (
            "gradcheck/test_check_gradients::test_everything_off_by_1e_9",
            "gradcheck/test_check_gradients::test_zero_gradient_of_a_scaled_loss",
            "gradcheck/test_check_gradients::test_one_element_off_by_a_thousandth",
            "gradcheck/test_methods::test_one_wrong_entry_among_six_thousand",
        ),
    },
    "checkpoints": {
        "kill −9 during a plain np.savez leaves an unreadable file": (
            "internal/test_checkpoint_interruption::test_kill_9",
            "internal/test_checkpoint_interruption::test_no_space_left",
        ),
        "np.savez appends .npz to a path": (
            "internal/test_checkpoint::test_the_path_is_taken_as_it_is",
            "transformer/test_model::TestFiles::test_the_path_is_taken_as_it_is",
        ),
        "np.load accepts duplicate members, extra keys, trailing bytes, big-endian, a file that inflates; pickles": (
            "internal/test_checkpoint_damage::TestForgery::test_is_refused_for_its_cause",
            "internal/test_checkpoint_damage::TestForgery::test_two_members_of_one_name",
            "internal/test_checkpoint_damage::test_truncation_and_additions",
            "internal/test_checkpoint::test_all_that_differs_is_named",
            "internal/test_checkpoint::test_before_an_array_takes_memory",
        ),
        "byte flips raise nine kinds of exceptions": (
            "internal/test_checkpoint_damage::test_flipped_bits",
            "internal/test_checkpoint_damage::test_three_hundred_at_random",
        ),
        "bit_generator.state does not survive savez": (
            "training/test_trainer::TestDropout::test_a_resumed_trainer_draws_what_it_would_have_drawn",
            "runs/test_run::test_stopped_after_any_step",
        ),
    },
}


def defined_in(path: Path) -> set[str]:
    """Return the names of the tests in a file, as Class::test and as test alone."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            methods = {child.name for child in node.body if isinstance(child, ast.FunctionDef)}
            found |= methods | {f"{node.name}::{name}" for name in methods}
    return found


@pytest.mark.parametrize("trap", [trap for traps in TRAPS.values() for trap in traps])
def test_every_trap_has_its_tests(trap: str) -> None:
    [tests] = [traps[trap] for traps in TRAPS.values() if trap in traps]
    assert tests
    for test in tests:
        file, _, name = test.partition("::")
        assert name.rpartition("::")[2].startswith("test_") and name in defined_in(TESTS / f"{file}.py"), test


# ---- traps that no other file tests ---------------------------------------------------------------------------


def test_a_tied_embedding_counts_once() -> None:
    """Its square is once in the norm of the gradient, and Adam updates it once, by the summed gradient."""
    model = toy_model(tie="all", src_vocab=11)
    assert sum(name.endswith("W_E") for name in model.params) == 1 and "output.W" not in model.params
    _, grads = model.loss_and_gradients(SRC, TGT)
    norm = np.sqrt(sum(np.sum(np.square(gradient)) for gradient in grads.values()))
    assert clip_gradients(grads, 1e9)[1] == pytest.approx(norm, rel=1e-14)
    before = model.params["embedding.W_E"].copy()
    Adam(model.params, lr=1e-3, eps=1e-30).step(grads)
    moved = before - model.params["embedding.W_E"]
    np.testing.assert_allclose(moved, 1e-3 * np.sign(grads["embedding.W_E"]), rtol=1e-9, atol=1e-18)


def test_a_dropped_imaginary_part_is_an_error_in_tests() -> None:
    with pytest.raises(np.exceptions.ComplexWarning):
        np.zeros(2)[:] = np.array([1 + 1e-20j, 2])
