"""Image-text-to-text models of transformers that are not supported, each with its status and the reason."""

NUMBERS = "its generate numbers new words by the length of the cache, which is wrong on padded rows even unpruned"

OUTSIDE = {
    "blip": ("not yet", "its forward runs the tower itself and takes neither encoded images nor a mask over them"),
    "diffusion_gemma": (
        "not yet",
        "it writes by block diffusion, with a generate of its own that never lets go of the images",
    ),
    "evolla": ("not applicable", "it reads proteins, not images"),
    "git": ("not yet", "while decoding it counts on the tower's full number of patches"),
    "kosmos-2": ("not yet", NUMBERS),
    "kosmos-2.5": ("not yet", NUMBERS),
    "minimax_m3_vl": (
        "not yet",
        "its sparse layers compare position ids with places in the cache, which is wrong on padded rows even unpruned",
    ),
    "mistral4": ("not applicable", "it is a language model alone; with images it comes as mistral3"),
    "pi0": ("not applicable", "it answers with a robot's actions, not in words"),
    "pix2struct": ("not applicable", "the question is drawn into the image: there is no prompt"),
    "pp_formulanet": ("not applicable", "it reads formulas from pixels alone: no question can be asked"),
    "udop": (
        "not yet",
        "its encoder embeds patches and joins them with the words itself: there is no encoding to drop from",
    ),
    "vision-encoder-decoder": (
        "not yet",
        "its forward takes no mask over the image, so rows cannot keep different numbers of tokens",
    ),
}
