"""Files of lower precision next to an exported model: float16 and int8, measured as the fp32 file is."""
