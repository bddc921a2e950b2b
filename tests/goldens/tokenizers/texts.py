"""The odd texts that tokenizers are tested on."""

PROSE = [
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a wife.",
    "I'm sure they'll say we've won; he's late, you're early, I'd go, don't, CAN'T, I'M, THEY'LL, WE'VE, it'ſ.",
    "In the beginning God created the heaven and the earth.\n\nAnd the earth was without form, and void;\n",
    "Prices rose 12.5% to $1,234,567.89 in 2024-11-24T17:00:00Z (see §3.1.4).",
    "我们需要初始化一个分词器。这里直接使用通义千问的分词器，共151936个词。",
    "大家好！今天是2024年11月24日，星期日。天气不错……",
    "これはテストです。カタカナとひらがなと漢字。",
    "안녕하세요, 토크나이저를 시험합니다.",
    "Привет, мир! Съешь же ещё этих мягких французских булок.",
    "Γειά σου Κόσμε. Ὦ ξεῖν᾽, ἀγγέλλειν Λακεδαιμονίοις",
    "مرحبا بالعالم ١٢٣٤٥ هذا اختبار",
    "नमस्ते दुनिया १२३ क्षत्रिय",
    "สวัสดีชาวโลก ทดสอบ ๑๒๓",
    "Zażółć gęślą jaźń; naïve café, Ångström, Đà Nẵng",
    "cafe\u0301 nai\u0308ve A\u030Angstro\u0308m e\u0323\u0302",
    "שלום עולם",
]

CODE = [
    "def group_texts(examples):\n    total = len(examples) // 128 * 128\n    return {k: v[:total] for k, v in examples.items()}\n",
    "#include <vector>\n\nint main(int argc, char** argv) {\n\tstd::vector<int> v{1, 2, 3};\n\treturn v.at(0) << 2 | ~0x7F;\n}\n",
    "for (let i=0;i<10;++i){console.log(`${i}`);}\r\n\r\n// done\r\n",
    "SELECT * FROM t WHERE a='b' AND c<>\"d\";",
    "\\frac{a}{b} + \\sum_{i=1}^{n} x_i^2 \\le \\infty",
    "https://example.org/a/b?c=d&e=%20f#g user@example.org",
    "{\"a\": [1, 2.5e-3, null, true], \"b\\n\": \"\\u00e9\"}",
    "if(x){\n        if(y){\n                z();\n        }\n}",
    "snake_case CamelCase kebab-case SCREAMING_SNAKE x1y2z3 __init__",
    "0x1F 1e10 3.14159265358979 1234567890123456789 007 1_000_000",
]

SPACES = [
    "", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\r", "\t", "\t\t\t", " \n", "\n ", " \n \n ", "a ", " a", "  a", "   a  ",
    "a  b", "a   b", "a\tb", "a\t\tb", "a\n\nb", "a \n b", "a\r\n\r\nb", "a\u00a0b", "a\u00a0\u00a0b", "\u3000a\u3000\u3000b",
    "a\u2028b\u2029c\u0085d", "a\u200bb\u200cc\u200dd", "a\u180eb \u180e \u180e", " " * 40, "a" + " " * 100 + "b", "\n" * 50,
    "\t" * 33 + "x", " \t \t \t x", "x \u2003\u2003 y", "x\x0b\x0cy", "end of text with spaces   ", "end with newline\n",
    "  5", "5  ", " 5 5  5   5", "3.\n\n\n4.", " '", "  's", " 's 't",
]

ODD = [
    "\x00", "\x00\x01\x02\x03\x07\x08\x0e\x1b\x1f\x7f", "\u0080\u0081\u009f\u00ad", "\ufeffBOM", "\ufffd\ufffe\uffff",
    "\U0010ffff\U000f0000\ue000", "👍", "👍🏽", "👨‍👩‍👧‍👦", "🇩🇪🇨🇳", "☕️☕︎", "😀😃😄 text 😁😆", "1️⃣2️⃣", "ᚠᛇᚻ᛫ᛒᛦᚦ", "𝕳𝖊𝖑𝖑𝖔 𝟙𝟚𝟛",
    "ﬁ ﬂ ﬀ ﬃ ½ ⅓ Ⅷ ⅷ ² ³ ① ⑳ ㊿ 〇 〡", "ǅ ǈ ǋ ǲ", "i̇ İ ı ß ẞ ſ", "Z̸̡̢̛͎͎̟̈́̐a̷̙͑l̴͇̽g̶̝̈o̵̙̊", "\u0301\u0301start with marks", "a\u0301\u0301\u0323\u0323b",
    "\u1112\u1161\u11ab\u1100\u1173\u11af", "각\u11a8", "\u0958 \u09dc \u0f43 \u2126 \u212b", "a\u09fe\u0327\u0301 \u1dfa\u0323", "\U00011935\U00011930",
    "\U0001faad\U0001fae8\U000323af\U00010d4a\U00010d40", "''''", "'S'T'RE'Ve'M'lL'D", "'s't're", "’s ’t", "----====____****", "!?!?!?…‽",
    "(((a)))[[b]]{{c}}", "a'b'c", "\"'`´‘’“”«»", "$€£¥₿¢", "±×÷≠≤≥∞∑∏√∫", "←↑→↓⇒⇔", "─│┌┐└┘█▓▒░", "٠١٢٣ ०१२ ๐๑๒ 〇一二三 ௰ ௱", "ⅠⅡⅢ¼½¾", "a1b22c333d4444e55555",
    "١2３٤", "ab" * 150, "ha" * 3 + "!" * 70, "中" * 120, "abc中文def日本123", "ĠĊċ Ä Ġthe", "Ã©Â", "<|endoftext|>", "a<|endoftext|>b", "<|endoftext|><|endoftext|>",
    "<|endoftext", "|endoftext|>", " <|endoftext|> ", "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "< |im_end|> <|IM_END|>",
    "left <L> right <R> both <B> end", "wordsingle <W> x<W> <W>x <W>", "Café cafe\u0301 CAFÉ <né> <ne\u0301>",
]

TEXTS = PROSE + CODE + SPACES + ODD
