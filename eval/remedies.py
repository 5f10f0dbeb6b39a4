"""What to do about a doubt: one sentence for each name, shown wherever doubts are listed."""

from __future__ import annotations

REMEDIES = {
    # the answers
    "hidden_randomness": (
        "Draw all random numbers of the defense from modules.noise and set random = True, so that attacks average over "
        "draws and the number can be repeated."
    ),
    "undeclared_randomness": (
        "Set random = True on the defense, so that the eot view runs and several draws are scored."
    ),
    "idle_randomness": "Remove random = True, or check why the noise never reaches the logits.",
    "batch_coupled": (
        "Make each answer depend on its own image alone (model.eval(), no statistics over the batch, no padding), or "
        "set group to the number of images that are answered together."
    ),
    "reads_names": (
        "Take the images' names out of what the defense reads; if it draws noise by them, set random = True."
    ),
    "remembers": (
        "Drop every cache, buffer or running statistic that a query changes, or reset it at the start of each call; "
        "declare a defense that adapts at test time as one, with its reset."
    ),
    "aged": "Take the clock, global state and undeclared noise out of the model, so that a copy always answers alike.",
    "cannot_copy": (
        "Make copy.deepcopy(model) work (no open files, locks or captured tensors), so that its answers can be "
        "compared with those of an untouched copy."
    ),
    "watches_pixels": (
        "Round the input to 8 bits as the first step of the defense and evaluate that, or remove the branch that "
        "depends on whether pixels lie on the 8-bit grid."
    ),
    "not_finite": "Find the log, division or overflow that returns NaN or infinity and clamp its input.",
    "label_leak": "Remove the path by which labels or names of images reach the model; it may read pixels only.",
    "probabilities": "Return the logits before the softmax.",
    "same_answer": "Check the preprocessing, the head and the checkpoint: its answers ignore the image.",
    "flat_answers": (
        "Replace rounding, argmax or nearest neighbors by a smooth version in differentiable() or smoothed(), and add "
        "attacks with the query view."
    ),
    "idle_defence": ("Lower the threshold at which the defense acts, or report the number as the bare encoder's."),
    # the gradients
    "infinite_gradient": "Clamp before the square root, norm or division whose derivative is infinite at zero.",
    "no_gradient": (
        "Remove the detach, no_grad, rounding or argmax between pixels and logits, or return a differentiable stand-in "
        "from differentiable()."
    ),
    "zero_gradient": (
        "Look for saturated or clipped values on the images concerned, return a smooth stand-in from differentiable(), "
        "and add the bpda and query views."
    ),
    "tiny_gradient": (
        "Look for a scale, temperature or saturated unit that shrinks the gradient, and attack with loss margin or dlr "
        "and the bpda and query views."
    ),
    "exploding_gradient": ("Attack with a smaller step_size and more steps, and add the eot, smooth and query views."),
    "sparse_gradient": (
        "Check which pixels the defense crops, masks or rounds away, and add the bpda and query views."
    ),
    "wrong_gradient": (
        "Correct the custom backward so that it is the derivative of forward; if a sign or gate has none, offer "
        "smoothed() and compare with the query view."
    ),
    "reversed_gradient": "Check the sign of the custom backward, and add the transfer and bpda views.",
    "sideways_gradient": (
        "Add the transfer, bpda and query views; if they find more, the defense's own gradient misleads."
    ),
    "underflow": "Evaluate in float32 (no autocast, no .half()), or scale the loss before the backward pass.",
    "saturated_logits": "Attack with a loss that ignores the scale of the logits: loss margin, dlr or dlr_targeted.",
    "watches_gradients": (
        "Remove every branch on requires_grad, is_grad_enabled or training, so that attackers meet the same model as "
        "users."
    ),
    "useless_gradient": (
        "Give attackers a better gradient (differentiable(), smoothed(), the bpda view), and add query attacks with "
        "more queries."
    ),
    "masked_gradient": "Add the transfer and bpda views with all attacks, and offer a stand-in in differentiable().",
    # short attacks and their points
    "outside_threat": (
        "Project the attack's points onto the ball and the box (threat.confine) after its last step; check norm, eps "
        "and the unit of pixels."
    ),
    "lost_to_rounding": "Also score attacked images rounded to 8 bits, and take more steps or restarts.",
    "stand_in": (
        "Let differentiable() compute the very values of the defense, or set faithful = False on what it returns."
    ),
    "stand_in_differs": (
        "Bring smoothed() or differentiable() closer to the defense (a sharper sign or gate) until the classes agree."
    ),
    "jumps": (
        "Find the branch, router or threshold that the logits jump at, offer smoothed() or the parts behind it, and "
        "attack with large steps and several restarts."
    ),
    # the numbers
    "artefact": "Evaluate the defense as its paper describes it; keep this row only next to the released number.",
    "at_chance": (
        "Check labels, class names, the range of pixels ([0, 1]) and the checkpoint until the clean accuracy is as "
        "published."
    ),
    "no_adaptive": "Add the adaptive view, for a random defense eot too, to views and to at least one attack.",
    "no_query": "Add an attack by queries, such as attacks.square={queries: 1000, views: [query]}, and the query view.",
    "one_draw": "Raise score_draws to 5 or more.",
    "few_images": "Raise data.limit; 500 images give an interval of about 9 points.",
    "query_wins": (
        "Give the query attack more queries and the gradient attacks more steps, restarts and views (bpda, smooth, "
        "trajectory)."
    ),
    "transfer_wins": (
        "Start the attacks through the defense from the transferred points, and find what hides its gradient (compare "
        "the bpda and smooth views)."
    ),
    "bpda_wins": "Find the step of the defense whose gradient misleads and give it a stand-in in differentiable().",
    "noise_wins": "Add query attacks with more queries, and find what makes gradients worse than random points.",
    "parts_wins": (
        "Attack the part that falls with all attacks and transfer its points; the way the parts are joined hides the "
        "gradient."
    ),
    "above_clean": (
        "Compare preprocessing and mode (eval()) of clean and attacked images, and make the defense act on both alike."
    ),
    "above_undefended": (
        "Check whether labels, names or a second model reach the defense, and that both are scored on the same images."
    ),
    # the curves
    "not_monotone": (
        "Attack with more steps, restarts and a step size that grows with eps, and start from a smaller ball's points."
    ),
    "never_falls": (
        "Attack with other losses (margin, dlr_targeted), the bpda view and more queries until a very large eps leaves "
        "nothing."
    ),
    "not_converged": "Use more steps and restarts, or --budget standard or thorough.",
    "one_step_wins": "Add restarts and a smaller step_size, average over draws, and add the smooth and query views.",
    "certified_above_attacked": (
        "Check that certificate and attacks use the same images, norm and eps, and that the certificate draws "
        "fresh noise."
    ),
}


def remedy_of(name: str) -> str:
    """What to do about the doubt of this name; empty where nobody knows it, e.g. from a later version."""
    return REMEDIES.get(name, "")
