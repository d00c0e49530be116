"""A supervised trainer of TRL, and a collator that labels whole texts."""

from trl import SFTConfig, SFTTrainer

from masked import COMMON


def sft(model, processor, tmp_path, rows, peft_config=None, **options):
    args = SFTConfig(output_dir=str(tmp_path), **{**COMMON, "max_length": None, **options})
    data = {"train_dataset": rows, "eval_dataset": rows}
    return SFTTrainer(model, args, processing_class=processor, peft_config=peft_config, **data)


def collate_all(processor, rows):
    """The batch of rows with messages: padded on the right, and every token that is not padding is a label."""
    texts = [processor.apply_chat_template(add_image(row["messages"]), tokenize=False) for row in rows]
    images = [row["images"] for row in rows]
    batch = processor(images=images, text=texts, padding=True, padding_side="right", return_tensors="pt")
    return {**batch, "labels": batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)}


def add_image(messages):
    """The messages with their texts as parts, and the image in the user's."""
    return [
        {
            "role": each["role"],
            "content": [
                *([{"type": "image"}] if each["role"] == "user" else []), {"type": "text", "text": each["content"]},
            ],
        }
        for each in messages
    ]  # fmt: skip
