"""The commands that train: train, finetune, dpo, prefer; and the options they share."""
