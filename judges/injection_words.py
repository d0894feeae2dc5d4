"""What a text says that speaks to its judge, by language (ISO 639-1), as patterns in the spelling that people use.

What is looked for first (`forget`, `answer`, `judge`) begins with its letters and no \\b: that is four times as fast.

The rule that must not break: a word alone accuses nobody; `judges.injections` says which must stand together.
"""

from dataclasses import dataclass

DIGIT = r"(?<![\d.,])(?:9|10|٩|९)(?!\d|[.,]\d)"


@dataclass(frozen=True, slots=True)
class Words:
    """Of one language: `forget` the `earlier` `rules`; `answer`, `grade` and `top`; a note to the `judge`."""

    forget: str
    earlier: str
    rules: str
    answer: str
    grade: str
    top: str
    judge: str
    verb_last: bool = False


WORDS = {
    "en": Words(
        r"(?:ignore|disregard|forget|override)\b",
        r"\b(?:previous|prior|above|preceding|earlier|you were given|you have been given)\b",
        r"\b(?:instructions?|rubrics?|rules|criteria|prompts?|guidelines)\b",
        r"(?:this|my) (?:answer|response|reply)\b",
        r"\b(?:give|award|score|rate|grade|assign|deserves?|merits?|marks)\b",
        r"\b(?:nine|ten|highest|maximum|perfect|full marks|top)\b",
        r"(?:note|message|instructions?|attention)[ ,]+(?:to |for )?(?:the )?(?:ai )?(?:judge|grader|evaluator|rater)s?\b"
        r"|dear (?:ai )?(?:grader|evaluator|rater)s?\b|as the (?:ai )?(?:judge|grader|evaluator|rater),? you\b"
        rf"|(?:valid|correct|right|true) (?:grade|digit|rating|verdict)\b[^.\n]{{0,40}}\bis {DIGIT}",
    ),
    "de": Words(
        r"(?:ignorier\w*|missachte\w*|vergiss|vergessen sie)\b",
        r"\b(?:vorherig\w*|vorig\w*|obig\w*|bisherig\w*|vorangehend\w*|oben)\b",
        r"\b\w*(?:anweisung|regel|kriteri|vorgabe|instruktion)\w*",
        r"(?:diese|dieser|meine|meiner) antwort\b",
        r"\b(?:gib|geben|bewerte\w*|benote\w*|verdien\w*|bekommt|note|punkte?)\b",
        r"\b(?:höchst\w*|bestnote|volle punktzahl|maximal\w*|neun)\b",
        r"(?:hinweis|nachricht|anmerkung|mitteilung) (?:an|für) (?:den|die) (?:gutachter|bewert|prüfer|juror|korrektor)",
        verb_last=True,
    ),
    "fr": Words(
        r"(?:ignore[zr]?|oublie[zr]?)\b",
        r"\b(?:précédente?s?|antérieure?s?|ci-dessus)\b",
        r"\b(?:instructions?|consignes?|règles|critères)\b",
        r"(?:cette|ma) réponse\b",
        r"\b(?:donne[zr]?|attribue[zr]?|note[zr]?|mérite|accorde[zr]?)\b",
        r"\b(?:maximale?|la plus haute|meilleure note|neuf)\b",
        r"(?:message|note|remarque)s? (?:au|aux|pour le|à l') ?(?:correcteur|évaluateur|juge|notateur)",
    ),
    "es": Words(
        r"(?:ignor[ae]n?|olvid[ae]n?|omit[ae]n?)\b",
        r"\b(?:anterior(?:es)?|previ[ao]s|de arriba)\b",
        r"\b(?:instrucciones|reglas|criterios|indicaciones)\b",
        r"(?:esta|mi) respuesta\b",
        r"\b(?:califi\w+|dale|pon(?:le|ga)?|merece|punt[uú]a\w*|puntuación|otorga\w*|asigna\w*)\b",
        r"\b(?:máxim[ao]|nueve|perfect[ao])\b",
        r"(?:nota|mensaje|aviso) (?:para el|para la|al?) ?(?:evaluador|juez|corrector|calificador)",
    ),
    "pt": Words(
        r"(?:ignorem?|ignora|desconsider[ae]m?|esqueça)\b",
        r"\b(?:anterior(?:es)?|acima|prévi[ao]s)\b",
        r"\b(?:instruções|regras|critérios|orientações)\b",
        r"(?:esta|essa|minha) resposta\b",
        r"\b(?:avali[ae]\w*|nota|merece|atribu\w+|pontu\w+)\b",
        r"\b(?:máxim[ao]|nove|perfeit[ao])\b",
        r"(?:nota|mensagem|aviso) (?:ao|à|para o|para a) (?:avaliador|juiz|juíz|corretor)",
    ),
    "it": Words(
        r"(?:ignor[ai]|ignorate|dimentic\w+|tralascia)\b",
        r"\b(?:precedent[ei]|sopra)\b",
        r"\b(?:istruzioni|regole|criteri|indicazioni)\b",
        r"(?:questa|mia) risposta\b",
        r"\b(?:assegn\w+|valut\w+|merita|voto|punteggio)\b",
        r"\b(?:massim[ao]|nove|perfett[ao])\b",
        r"(?:nota|messaggio|avviso) (?:per il|al) (?:valutatore|giudice|correttore)",
    ),
    "nl": Words(
        r"(?:negeer|vergeet)\b",
        r"\b(?:voorgaande|bovenstaande|vorige|eerdere)\b",
        r"\b(?:instructies|regels|criteria)\b",
        r"(?:dit|mijn) antwoord\b",
        r"\b(?:geef|beoordeel|verdient|cijfer|punten)\b",
        r"\b(?:hoogste|negen|maximale)\b",
        r"(?:bericht|opmerking|notitie) (?:aan|voor) de (?:beoordelaar|jury)",
    ),
    "pl": Words(
        r"(?:z?ignoruj\w*|zapomnij\w*|pomiń\w*)\b",
        r"\b(?:poprzedni\w*|powyższ\w*|wcześniejsz\w*)\b",
        r"\b(?:instrukcj\w*|zasad\w*|kryteri\w*|polece\w*)\b",
        r"(?:ta|tę|tej|moja|moją|mojej) odpowied[zź]i?\b",
        r"\b(?:oce[nń]\w*|daj|zasług\w*|punkt\w*|przyznaj)\b",
        r"\b(?:najwyższ\w*|maksymaln\w*|dziewię\w*)\b",
        r"(?:uwaga|wiadomość|notatka) (?:dla|do) (?:oceniając|sędzi|recenzent)",
    ),
    "ru": Words(
        r"(?:про)?(?:игнорируй|забудь|забудьте|игнорируйте)\b",
        r"\b(?:предыдущ\w*|выше\w*|прежн\w*)\b",
        r"\b(?:инструкци\w*|правил\w*|указани\w*|критери\w*)\b",
        r"(?:этот|этому|мой|моему) ответу?\b",
        r"\b(?:поставь\w*|оцени\w*|оценк\w*|заслуж\w*|балл\w*)\b",
        r"\b(?:высш\w*|наивысш\w*|максимальн\w*|девят\w*)\b",
        r"(?:сообщение|примечание|заметка|указание) (?:для )?(?:судь|оценщик|проверяющ)",
    ),
    "uk": Words(
        r"(?:про)?(?:ігноруй|забудь|забудьте|ігноруйте)\b",
        r"\b(?:попередн\w*|вище\w*)\b",
        r"\b(?:інструкці\w*|правил\w*|вказівк\w*|критері\w*)\b",
        r"(?:цю|ця|цій|моя|моїй) відповід[ьі]",
        r"\b(?:постав\w*|оцін\w*|заслугов\w*|бал\w*)\b",
        r"\b(?:найвищ\w*|максимальн\w*|дев.?ят\w*)\b",
        r"(?:повідомлення|примітка|зауваження) (?:для )?(?:судд|оцінювач|перевіряюч)",
    ),
    "tr": Words(
        r"(?:yok say\w*|unut\w*|görmezden gel\w*|dikkate alma\w*)\b",
        r"\b(?:önceki|yukar[ıi]da\w*)\b",
        r"\b(?:talimat\w*|kural\w*|yönerge\w*)",
        r"bu (?:cevab|yan[ıi]t)\w*",
        r"\b(?:puan\w*|değerlendir\w*|hak ed\w*)\b",
        r"\b(?:en yüksek|tam puan|dokuz)\b",
        r"(?:değerlendirici|hakem|jüri|puanlay[ıi]c[ıi])\w* (?:not|mesaj)\b",
        verb_last=True,
    ),
    "ar": Words(
        "تجاهل|انس |تناسى",
        "السابقة|أعلاه|المذكورة",
        "التعليمات|القواعد|المعايير|الإرشادات",
        "هذه الإجابة|هذا الجواب|إجابتي",
        "امنح|أعط|قيم|تستحق|يستحق",
        "أعلى|تسعة|كاملة",
        "(?:ملاحظة|رسالة|تنبيه) (?:إلى ال|لل)(?:مقيم|حكم|مصحح)",
    ),
    "hi": Words(
        "अनदेखा|भूल|नज़रअंदाज़",
        "पिछले|ऊपर|पूर्व",
        "निर्देश|नियम",
        "(?:इस|यह|मेरे) (?:उत्तर|जवाब)",
        "अंक|मूल्यांकन|नंबर",
        "पूरे|सर्वोच्च|अधिकतम",
        "(?:निर्णायक|मूल्यांकनकर्ता|परीक्षक) (?:के लिए|को) (?:नोट|सूचना|संदेश)",
        verb_last=True,
    ),
    "zh": Words(
        "忽略|无视|無視|忘记|忘掉|忘記|不要理会",
        "以上|上面|之前|先前|上述|前面",
        "指示|指令|规则|規則|标准|標準|提示",
        "(?:这个|這個|此|本|该)(?:回答|答案)",
        "打|给|給|应得|應得|评为",
        "满分|滿分|最高分|九分",
        "致(?:各位)?(?:评委|評審|评审|评分者|裁判)[：:，,]",
        verb_last=True,
    ),
    "ja": Words(
        "無視|忘れ",
        "上記|これまで|以前|前の|上の",
        "指示|基準|ルール|命令",
        "(?:この|私の)(?:回答|答え|応答)",
        "点|評価|採点|値し",
        "満点|最高",
        "(?:採点者|評価者|審査員|判定者)(?:への|の方へ|様へ)(?:注意|お願い|連絡|指示|メモ|:)",
        verb_last=True,
    ),
    "ko": Words(
        "무시|잊고|잊어",
        "이전|위의|앞의|위에",
        "지시|기준|규칙|명령",
        "(?:이|제|내) (?:답변|응답|대답)",
        "점|평가",
        "만점|최고",
        "(?:채점자|평가자|심사자|심사위원)(?:에게|께) ?:",
        verb_last=True,
    ),
    "vi": Words(
        r"(?:bỏ qua|quên)\b",
        r"\b(?:trước đó|ở trên|phía trên|trên đây)\b",
        r"\b(?:hướng dẫn|quy tắc|chỉ dẫn)\b",
        r"câu trả lời (?:này|của tôi)\b",
        r"\b(?:chấm|cho|đánh giá|điểm)\b",
        r"\b(?:tối đa|cao nhất)\b",
        r"(?:ghi chú|thông báo|nhắn) (?:cho|gửi|tới) (?:người chấm|giám khảo|người đánh giá)",
    ),
    "id": Words(
        r"(?:abaikan|lupakan)\b",
        r"\b(?:sebelumnya|di atas)\b",
        r"\b(?:instruksi|aturan|petunjuk|kriteria)\b",
        r"jawaban (?:ini|saya)\b",
        r"\b(?:beri|berikan|nilai\w*)\b",
        r"\b(?:sempurna|tertinggi|maksimal)\b",
        r"(?:catatan|pesan) (?:untuk|kepada) (?:penilai|juri)",
    ),
}
